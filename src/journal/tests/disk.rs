//! A disk in memory that fails when told, has a size, and forgets on a crash what was not synced.
//!
//! It is as unkind as a real one may be. A failed sync marks its bytes as written without writing
//! them. After a crash each sector that was not synced is old or new, and each change of
//! a name that was not synced is there or not.
//!
//! It can keep what it was at every call, to have power lost there later, and more than once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::journal::disk::{Directory, Disk, DiskFile, Guard};

/// Smaller than real ones, so that small files have many.
const SECTOR: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct FaultDisk(Arc<Mutex<World>>);

/// What is on a disk, and what of it is on stable storage.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// What is written as a whole or not at all.
    sector: usize,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    /// What the names are after a loss of power, and what was done to them since.
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced: Vec<NameChange>,
}

/// What a disk was when it was called.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// The number of the call, which has not begun.
    pub(super) call: u64,
    pub(super) image: Image,
}

/// What becomes of changes of names that were not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names {
    /// Each is there or not.
    Some,
    /// None is there.
    None,
}

#[derive(Debug)]
struct World {
    image: Image,
    locked: bool,
    /// Calls that change something, so far.
    calls: u64,
    /// The call that fails, and whether those after it do, too.
    fails_at: Option<(u64, bool)>,
    /// The write that finds the disk full after so many bytes, counted from the next one on.
    full_at: Option<(u64, usize)>,
    fails_reads: bool,
    reads: u64,
    /// Kept since it was asked to.
    moments: Option<Vec<Moment>>,
    /// Files that are open, now and at most.
    open: usize,
    open_max: usize,
    bytes_max: Option<usize>,
    /// Whether it says how much is free. If not, writes have to find out.
    says_free: bool,
    log: Vec<String>,
    random: fastrand::Rng,
}

impl Default for World {
    fn default() -> Self {
        Self {
            image: Image {
                sector: SECTOR,
                inodes: Vec::new(),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                unsynced: Vec::new(),
            },
            locked: false,
            calls: 0,
            fails_at: None,
            full_at: None,
            fails_reads: false,
            reads: 0,
            moments: None,
            open: 0,
            open_max: 0,
            bytes_max: None,
            says_free: false,
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
    /// An empty one with larger sectors, or smaller ones.
    pub(super) fn with_sectors(bytes: usize) -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().image.sector = bytes;
        disk
    }

    /// From now on it keeps what it is at every call that changes something.
    pub(super) fn keep_moments(&self) {
        self.0.lock().unwrap().moments = Some(Vec::new());
    }

    /// What it kept, and what it is now.
    pub(super) fn moments(&self) -> Vec<Moment> {
        let mut world = self.0.lock().unwrap();
        let mut moments = world.moments.take().unwrap_or_default();
        moments.push(Moment {
            call: world.calls + 1,
            image: world.image.clone(),
        });
        moments
    }

    /// Lets a write find the disk full after so many bytes; `nth` is 1 for the next one.
    pub(super) fn full_at(&self, nth: u64, bytes: usize) {
        self.0.lock().unwrap().full_at = Some((nth, bytes));
    }

    /// Whether that write has not come yet.
    pub(super) fn will_be_full(&self) -> bool {
        self.0.lock().unwrap().full_at.is_some()
    }

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
        world.fails_at = Some((call, on));
    }

    pub(super) fn fail_reads(&self, yes: bool) {
        self.0.lock().unwrap().fails_reads = yes;
    }

    /// Limits the bytes of all files.
    pub(super) fn set_size(&self, bytes_max: Option<usize>) {
        self.0.lock().unwrap().bytes_max = bytes_max;
    }

    /// From now on it says how much is free.
    pub(super) fn say_free(&self) {
        self.0.lock().unwrap().says_free = true;
    }

    /// The bytes of all files.
    pub(super) fn used(&self) -> usize {
        self.0.lock().unwrap().used()
    }

    /// The disk as another process finds it after this one was killed: nothing is lost, and what a
    /// failed sync left in memory only is still shown.
    pub(super) fn after_kill(&self) -> Self {
        let world = self.0.lock().unwrap();
        Self::of(world.image.clone(), &world)
    }

    /// The disk after a loss of power.
    pub(super) fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let world = self.0.lock().unwrap();
        Self::of(world.image.after_power_loss(random, Names::Some), &world)
    }

    fn of(mut image: Image, from: &World) -> Self {
        image.forget_nameless();
        let disk = Self::from(image);
        let mut world = disk.0.lock().unwrap();
        world.bytes_max = from.bytes_max;
        world.says_free = from.says_free;
        drop(world);
        disk
    }

    /// A file's bytes.
    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        let world = self.0.lock().unwrap();
        world.image.inodes[world.image.names[path]].live.clone()
    }

    /// Replaces a file, on stable storage.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.0.lock().unwrap();
        let inode = Inode {
            live: bytes.to_vec(),
            durable: bytes.to_vec(),
            dirty: BTreeSet::new(),
        };
        world.image.inodes.push(inode);
        let inode = world.image.inodes.len() - 1;
        world.image.names.insert(path.to_owned(), inode);
        world.image.durable_names.insert(path.to_owned(), inode);
    }

    pub(super) fn delete(&self, path: &Path) {
        let mut world = self.0.lock().unwrap();
        world.image.names.remove(path);
        world.image.durable_names.remove(path);
    }

    /// The paths of all files.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap().image.names.keys().cloned().collect()
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

impl From<Image> for FaultDisk {
    fn from(image: Image) -> Self {
        let world = World {
            image,
            ..World::default()
        };
        Self(Arc::new(Mutex::new(world)))
    }
}

impl Image {
    /// Frees what no name leads to, as a system does when nobody has it open any more.
    fn forget_nameless(&mut self) {
        let mut named: BTreeSet<usize> = self.names.values().copied().collect();
        named.extend(self.durable_names.values());
        for change in &self.unsynced {
            match change {
                NameChange::Insert(_, inode) | NameChange::Rename(_, _, inode) => {
                    named.insert(*inode);
                }
                NameChange::Remove(_) => {}
            }
        }
        for (inode, number) in self.inodes.iter_mut().zip(0..) {
            if !named.contains(&number) {
                *inode = Inode::default();
            }
        }
    }

    /// What is left after a loss of power.
    pub(super) fn after_power_loss(&self, random: &mut fastrand::Rng, kept: Names) -> Self {
        let inodes = self
            .inodes
            .iter()
            .map(|inode| inode.torn(self.sector, random));
        let inodes = inodes.collect();
        let mut names = self.durable_names.clone();
        for change in &self.unsynced {
            let kept = match kept {
                Names::Some => random.bool(),
                Names::None => false,
            };
            if kept {
                change.apply(&mut names);
            }
        }
        Self {
            sector: self.sector,
            inodes,
            names: names.clone(),
            durable_names: names,
            unsynced: Vec::new(),
        }
    }
}

impl World {
    fn call(&mut self, what: &str) -> io::Result<()> {
        self.calls += 1;
        if let Some(moments) = &mut self.moments {
            moments.push(Moment {
                call: self.calls,
                image: self.image.clone(),
            });
        }
        self.log.push(what.to_owned());
        let fails = self.fails_at.is_some_and(|(at, on)| {
            if on {
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
        let inodes: BTreeSet<usize> = self.image.names.values().copied().collect();
        inodes
            .into_iter()
            .map(|inode| self.image.inodes[inode].live.len())
            .sum()
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.image.names);
        self.image.unsynced.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.image
            .names
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
    fn touch(&mut self, size: usize, begin: usize, end: usize) {
        self.dirty.extend(begin / size..end.div_ceil(size));
    }

    fn sync(&mut self, size: usize) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let (begin, end) = (sector * size, ((sector + 1) * size).min(self.live.len()));
            if begin < end {
                self.durable[begin..end].copy_from_slice(&self.live[begin..end]);
            }
        }
    }

    fn torn(&self, size: usize, random: &mut fastrand::Rng) -> Self {
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
            let begin = sector * size;
            let end = (begin + size).min(self.live.len()).min(bytes.len());
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
            .image
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
        world.image.inodes.push(Inode::default());
        let inode = world.image.inodes.len() - 1;
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
        if world.image.names.contains_key(to) {
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

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)
    }

    fn open_dir(&self, _path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(FaultDir(Arc::clone(&self.0))))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let world = self.0.lock().unwrap();
        let said = world.bytes_max.filter(|_| world.says_free);
        let free = said.map(|max| max.saturating_sub(world.used()));
        Ok(free.map_or(u64::MAX, |free| u64::try_from(free).unwrap()))
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
        world.image.durable_names = world.image.names.clone();
        world.image.unsynced.clear();
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
        Ok(self.world.lock().unwrap().image.inodes[self.inode]
            .live
            .len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world.lock().unwrap();
        world.reads += 1;
        if world.fails_reads {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = world.image.inodes[self.inode]
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
        let length = world.image.inodes[self.inode].live.len();
        let growth = (offset + size).saturating_sub(length);
        let room = world
            .bytes_max
            .map_or(usize::MAX, |max| max.saturating_sub(world.used()));
        if growth > room {
            size = size.saturating_sub(growth - room);
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        if let Some((nth, bytes)) = world.full_at.take() {
            if nth > 1 {
                world.full_at = Some((nth - 1, bytes));
            } else {
                size = size.min(bytes);
                outcome = Err(io::ErrorKind::StorageFull.into());
            }
        }
        let sector = world.image.sector;
        let inode = &mut world.image.inodes[self.inode];
        if size > 0 {
            let grown = inode.live.len().max(offset + size);
            inode.live.resize(grown, 0);
            inode.live[offset..offset + size].copy_from_slice(&bytes[..size]);
            inode.touch(sector, length.min(offset), offset + size);
        }
        if outcome.is_err() {
            // The system writes back when it likes: here, at the worst time.
            inode.sync(sector);
        }
        outcome
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        world.call(&format!("cut {}", self.label))?;
        let sector = world.image.sector;
        let inode = &mut world.image.inodes[self.inode];
        let before = inode.live.len();
        inode.live.resize(to_usize(bytes), 0);
        inode.touch(
            sector,
            before.min(to_usize(bytes)),
            before.max(to_usize(bytes)),
        );
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        let outcome = world.call(&format!("sync {}", self.label));
        let World { image, random, .. } = &mut *world;
        let inode = &mut image.inodes[self.inode];
        if outcome.is_err() {
            // Some of it may have arrived. The rest is no longer known to be missing.
            inode.dirty.retain(|_| random.bool());
        }
        inode.sync(image.sector);
        outcome
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}
