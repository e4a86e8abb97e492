#!/bin/sh
# Installs what building and testing need and this machine lacks, from Debian's or Ubuntu's
# packages:
#
#   install-dependencies.sh build    a C compiler and its headers (for the TLS library)
#   install-dependencies.sh test     the same, RabbitMQ (the tests start private nodes of it), what
#                                    stands in front (nginx, HAProxy), what makes trouble (strace,
#                                    iproute2, nftables), what looks on (sslscan, script,
#                                    valgrind), and a C++ compiler for libFuzzer; Node and Python,
#                                    and with their package managers the providers' own SDKs, into
#                                    target/sdk
#   install-dependencies.sh bench    the same as test; instead of the SDKs, what the programs need that
#                                    are measured beside the gateway, into target/peers
#
# It says what it does, does nothing when nothing is missing, and never starts a service.
set -eu

what=${1:-test}
missing=""

# want FILE_OR_COMMAND PACKAGE...
want() {
    case $1 in
        /*) [ -e "$1" ] && return ;;
        *) command -v "$1" >/dev/null 2>&1 && return ;;
    esac
    shift
    missing="$missing $*"
}

case $what in
    build | test | bench) ;;
    *)
        echo "usage: $0 [build|test|bench]" >&2
        exit 2
        ;;
esac
want cc gcc
want /usr/include/stdlib.h libc6-dev
if [ "$what" != build ]; then
    want /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
    want strace strace
    want /usr/sbin/haproxy haproxy
    want /usr/sbin/nginx nginx-light
    want /sbin/ip iproute2
    want /usr/sbin/nft nftables
    want sslscan sslscan
    want script bsdutils
    want valgrind valgrind
    want c++ g++
    want node nodejs
    want npm npm
    want python3 python3
    # Debian has what `venv` needs in a package of its own.
    python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
fi

root=$(cd "$(dirname "$0")/.." && pwd)

# What programs for Node and for Python need, as their lock files say: nothing of it runs while it is
# installed, and what is there already is left alone.

# node_packages FROM TO PROGRAM
node_packages() {
    lock=$root/$1/package-lock.json
    there=$root/$2
    cmp -s "$lock" "$there/installed" && return
    echo "==> packages for Node, into $2"
    mkdir -p "$there"
    rm -f "$there/installed"
    cp "$lock" "$root/$1/package.json" "$there"
    # Node looks for packages beside the program that wants them.
    ln -sf "../../../$1/$3" "$there/$3"
    npm ci --prefix "$there" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$lock" "$there/installed"
}

# python_packages FROM TO
python_packages() {
    lock=$root/$1/requirements.txt
    there=$root/$2
    cmp -s "$lock" "$there/installed" && return
    echo "==> packages for Python, into $2"
    rm -rf "$there"
    python3 -m venv "$there"
    "$there/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
        --only-binary :all: --requirement "$lock"
    cp "$lock" "$there/installed"
}

packages() {
    case $what in
        test)
            node_packages tests/sdk/node target/sdk/node sdk.mjs
            python_packages tests/sdk/python target/sdk/python
            ;;
        bench)
            node_packages benches/peers/node target/peers/node peer.mjs
            python_packages benches/peers/python target/peers/python
            ;;
    esac
}

if [ -z "$missing" ]; then
    packages
    exit 0
fi

echo "==> missing:$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "==> there is no apt-get here: install them by hand, then run this again" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "==> installing needs root or sudo; as root: apt-get install$missing" >&2
    exit 1
fi

# Packages start their services when they are installed; the tests start nodes of their own, so
# nothing shall be left running. An existing policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi

log=$(mktemp)
# apt MESSAGE ARGUMENT...
apt() {
    echo "==> $1"
    shift
    # No terminal to ask at, in CI least of all.
    if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        echo "==> apt-get $* failed" >&2
        exit 1
    fi
}
apt "apt-get update" update
# shellcheck disable=SC2086
apt "apt-get install$missing" install --no-install-recommends $missing
rm -f "$log"
echo "==> installed:$missing"
packages
case $missing in
    *rabbitmq-server*)
        echo "==> RabbitMQ's own service was not started: the tests start private nodes on loopback"
        ;;
esac
