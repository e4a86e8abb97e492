//! A disk in memory that fails when told, has a size, and forgets on a crash what was not synced.
//!
//! It is as unkind as a real one may be. A failed sync marks its bytes as written without writing
//! them. After a crash each sector that was not synced is old or new, and each change of
//! a name that was not synced is there or not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::journal::disk::{Directory, Disk, DiskFile, Guard};

/// Smaller than real ones, so that small files have many.
const SECTOR: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct FaultDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    /// What the names are after a loss of power, and what was done to them since.
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced: Vec<NameChange>,
    locked: bool,
    /// Calls that change something, so far.
    calls: u64,
    /// The call that fails, and those after it too if `fails_on`.
    fails_at: Option<u64>,
    fails_on: bool,
    fails_reads: bool,
    reads: u64,
    /// Files that are open, now and at most.
    open: usize,
    open_max: usize,
    bytes_max: Option<usize>,
    log: Vec<String>,
    random: fastrand::Rng,
}

impl Default for World {
    fn default() -> Self {
        Self {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced: Vec::new(),
            locked: false,
            calls: 0,
            fails_at: None,
            fails_on: false,
            fails_reads: false,
            reads: 0,
            open: 0,
            open_max: 0,
            bytes_max: None,
            log: Vec::new(),
            random: fastrand::Rng::with_seed(7),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Insert(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug)]
struct FaultFile {
    world: Arc<Mutex<World>>,
    inode: usize,
    label: String,
}

#[derive(Debug)]
struct FaultDir(Arc<Mutex<World>>);

#[derive(Debug)]
struct FaultGuard(Arc<Mutex<World>>);

impl FaultDisk {
    /// How many changing calls there were.
    pub(super) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// How many reads there were.
    pub(super) fn reads(&self) -> u64 {
        self.0.lock().unwrap().reads
    }

    /// How many files were open at once, at most.
    pub(super) fn open_max(&self) -> usize {
        self.0.lock().unwrap().open_max
    }

    /// What the changing calls were.
    pub(super) fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }

    /// Lets the call number `call` fail, and with `on` every one after it.
    pub(super) fn fail_at(&self, call: u64, on: bool) {
        let mut world = self.0.lock().unwrap();
        world.random.seed(call);
        world.fails_at = Some(call);
        world.fails_on = on;
    }

    pub(super) fn fail_reads(&self, yes: bool) {
        self.0.lock().unwrap().fails_reads = yes;
    }

    /// Limits the bytes of all files.
    pub(super) fn set_size(&self, bytes_max: Option<usize>) {
        self.0.lock().unwrap().bytes_max = bytes_max;
    }

    /// The bytes of all files.
    pub(super) fn used(&self) -> usize {
        self.0.lock().unwrap().used()
    }

    /// The disk as another process finds it after this one was killed: nothing is lost, and what a
    /// failed sync left in memory only is still shown.
    pub(super) fn after_kill(&self) -> Self {
        let world = self.0.lock().unwrap();
        Self::of(world.inodes.clone(), world.names.clone(), &world)
    }

    /// The disk after a loss of power.
    pub(super) fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let world = self.0.lock().unwrap();
        let inodes: Vec<Inode> = world
            .inodes
            .iter()
            .map(|inode| inode.torn(random))
            .collect();
        let mut names = world.durable_names.clone();
        for change in &world.unsynced {
            if random.bool() {
                change.apply(&mut names);
            }
        }
        let disk = Self::of(inodes, names.clone(), &world);
        let mut settled = disk.0.lock().unwrap();
        settled.durable_names = names;
        settled.unsynced.clear();
        drop(settled);
        disk
    }

    fn of(inodes: Vec<Inode>, names: BTreeMap<PathBuf, usize>, from: &World) -> Self {
        let world = World {
            inodes,
            names,
            durable_names: from.durable_names.clone(),
            unsynced: from.unsynced.clone(),
            bytes_max: from.bytes_max,
            ..World::default()
        };
        Self(Arc::new(Mutex::new(world)))
    }

    /// A file's bytes.
    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock().unwrap();
        world.inodes[world.names[path]].live.clone()
    }

    /// Replaces a file, on stable storage.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.0.lock().unwrap();
        let inode = Inode {
            live: bytes.to_vec(),
            durable: bytes.to_vec(),
            dirty: BTreeSet::new(),
        };
        world.inodes.push(inode);
        let inode = world.inodes.len() - 1;
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
    }

    pub(super) fn delete(&self, path: &Path) {
        let mut world = self.0.lock().unwrap();
        world.names.remove(path);
        world.durable_names.remove(path);
    }

    /// The paths of all files.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    fn call(&self, what: &str, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap().to_string_lossy();
        self.0.lock().unwrap().call(&format!("{what} {name}"))
    }

    fn file(&self, path: &Path, inode: usize) -> Arc<dyn DiskFile> {
        let mut world = self.0.lock().unwrap();
        world.open += 1;
        world.open_max = world.open_max.max(world.open);
        drop(world);
        let label = path.file_name().unwrap().to_string_lossy().into_owned();
        Arc::new(FaultFile {
            world: Arc::clone(&self.0),
            inode,
            label,
        })
    }
}

impl World {
    fn call(&mut self, what: &str) -> io::Result<()> {
        self.calls += 1;
        self.log.push(what.to_owned());
        let fails = self.fails_at.is_some_and(|at| {
            if self.fails_on {
                at <= self.calls
            } else {
                at == self.calls
            }
        });
        if fails {
            Err(io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    }

    fn used(&self) -> usize {
        let inodes: BTreeSet<usize> = self.names.values().copied().collect();
        inodes
            .into_iter()
            .map(|inode| self.inodes[inode].live.len())
            .sum()
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Insert(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Inode {
    fn touch(&mut self, begin: usize, end: usize) {
        self.dirty.extend(begin / SECTOR..end.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let (begin, end) = (
                sector * SECTOR,
                ((sector + 1) * SECTOR).min(self.live.len()),
            );
            if begin < end {
                self.durable[begin..end].copy_from_slice(&self.live[begin..end]);
            }
        }
    }

    fn torn(&self, random: &mut fastrand::Rng) -> Self {
        let mut after = self.clone();
        for sector in &self.dirty {
            if random.bool() {
                after.dirty.remove(sector);
            }
        }
        let kept = std::mem::take(&mut after.dirty);
        let mut bytes = self.durable.clone();
        // The length is of either time, or of some time between.
        let (low, high) = (
            self.durable.len().min(self.live.len()),
            self.durable.len().max(self.live.len()),
        );
        let length = match random.u8(..4) {
            0 => self.durable.len(),
            1 => self.live.len(),
            _ => random.usize(low..=high),
        };
        bytes.resize(length.max(self.durable.len()), 0);
        for sector in kept {
            let begin = sector * SECTOR;
            let end = (begin + SECTOR).min(self.live.len()).min(bytes.len());
            if begin < end {
                bytes[begin..end].copy_from_slice(&self.live[begin..end]);
            }
        }
        bytes.truncate(length);
        Self {
            live: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        }
    }
}

impl Disk for FaultDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.0.lock().unwrap();
        let inside = world
            .names
            .keys()
            .filter(|name| name.parent() == Some(path));
        Ok(inside
            .map(|name| name.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.call("create", path)?;
        let mut world = self.0.lock().unwrap();
        world.inodes.push(Inode::default());
        let inode = world.inodes.len() - 1;
        world.change(NameChange::Insert(path.to_owned(), inode));
        drop(world);
        Ok(self.file(path, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.0.lock().unwrap().find(path)?;
        Ok(self.file(path, inode))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename to", to)?;
        let mut world = self.0.lock().unwrap();
        let inode = world.find(from)?;
        world.change(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link to", to)?;
        let mut world = self.0.lock().unwrap();
        if world.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = world.find(from)?;
        world.change(NameChange::Insert(to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        let mut world = self.0.lock().unwrap();
        world.find(path)?;
        world.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn open_dir(&self, _path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(FaultDir(Arc::clone(&self.0))))
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let mut world = self.0.lock().unwrap();
        if std::mem::replace(&mut world.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(FaultGuard(Arc::clone(&self.0)))))
    }
}

impl Directory for FaultDir {
    fn sync(&self) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.call("sync directory")?;
        world.durable_names = world.names.clone();
        world.unsynced.clear();
        Ok(())
    }
}

impl Guard for FaultGuard {}

impl Drop for FaultFile {
    fn drop(&mut self) {
        self.world.lock().unwrap().open -= 1;
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        self.0.lock().unwrap().locked = false;
    }
}

impl DiskFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.world.lock().unwrap().inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world.lock().unwrap();
        world.reads += 1;
        if world.fails_reads {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = world.inodes[self.inode]
            .live
            .get(to_usize(offset)..)
            .unwrap_or_default();
        let size = buffer.len().min(bytes.len());
        buffer[..size].copy_from_slice(&bytes[..size]);
        Ok(size)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        let mut outcome = world.call(&format!("write {}", self.label));
        let offset = to_usize(offset);
        let mut size = bytes.len();
        if outcome.is_err() {
            // A write that fails may have written some.
            size /= 2;
        }
        let length = world.inodes[self.inode].live.len();
        let growth = (offset + size).saturating_sub(length);
        let room = world
            .bytes_max
            .map_or(usize::MAX, |max| max.saturating_sub(world.used()));
        if growth > room {
            size = size.saturating_sub(growth - room);
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        let inode = &mut world.inodes[self.inode];
        if size > 0 {
            let grown = inode.live.len().max(offset + size);
            inode.live.resize(grown, 0);
            inode.live[offset..offset + size].copy_from_slice(&bytes[..size]);
            inode.touch(length.min(offset), offset + size);
        }
        if outcome.is_err() {
            // The system writes back when it likes: here, at the worst time.
            inode.sync();
        }
        outcome
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        world.call(&format!("cut {}", self.label))?;
        let inode = &mut world.inodes[self.inode];
        let before = inode.live.len();
        inode.live.resize(to_usize(bytes), 0);
        inode.touch(before.min(to_usize(bytes)), before.max(to_usize(bytes)));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        let outcome = world.call(&format!("sync {}", self.label));
        let World { inodes, random, .. } = &mut *world;
        let inode = &mut inodes[self.inode];
        if outcome.is_err() {
            // Some of it may have arrived. The rest is no longer known to be missing.
            inode.dirty.retain(|_| random.bool());
        }
        inode.sync();
        outcome
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}
