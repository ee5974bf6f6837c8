# SPDX-License-Identifier: MIT
# packages.sh - the Debian and Ubuntu packages of the project, and how missing ones are installed. Sourced by
# ./quickstart and ./check; POSIX sh.

# To build and serve. The optional ones are left out where the distribution has them not: libdnnl-dev is the packing GEMM
# back end.
optional_packages="libdnnl-dev"
build_packages="$optional_packages gcc libc6-dev meson ninja-build pkg-config libmicrohttpd-dev libjansson-dev libopenblas-dev \
libjpeg-dev libstb-dev libutf8proc-dev libxxhash-dev libseccomp-dev libzip-dev zlib1g-dev curl"

# To test, beside those.
test_packages="libcmocka-dev clang libclang-rt-dev binutils python3 python3-pytest python3-numpy python3-pil \
python3-jsonschema python3-yaml python3-kubernetes"

# The container tests run where a Docker engine does: they make a base image by debootstrap, and start compose.yaml.
if command -v docker >/dev/null; then
    test_packages="$test_packages debootstrap"
    docker compose version >/dev/null 2>&1 || test_packages="$test_packages docker-compose"
fi

# The kernels of 64-bit Arm are tested in an emulator; on such a processor they need none.
if [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
    test_packages="$test_packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
fi

# is_installed PACKAGE
is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# is_optional PACKAGE
is_optional() {
    case " $optional_packages " in *" $1 "*) return 0 ;; esac
    return 1
}

# without_unknown PACKAGE...: prints them, but for optional ones that the lists do not have.
without_unknown() {
    for package in "$@"; do
        ! is_optional "$package" || apt-cache show "$package" >/dev/null 2>&1 || continue
        printf ' %s' "$package"
    done
}

# install_packages PACKAGE...: those that are missing, and no word if none is. Needs root or sudo only if one is.
install_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "This is neither Debian nor Ubuntu, so nothing is installed. Needed are, by their Debian names:" >&2
        echo "  $*" >&2
        return 0 # meson names what is really missing
    fi
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            [ "$missing" != " $optional_packages" ] || return 0
            echo "These packages are missing, and without root or sudo they cannot be installed:" >&2
            echo "  apt-get install$missing" >&2
            return 1
        fi
        as_root=sudo
    fi
    echo "Installing$missing"
    log=$(mktemp) || return 1
    # Lists may be old or not there at all; a lock that another apt-get holds is waited for.
    # shellcheck disable=SC2046,SC2086
    if $as_root apt-get -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y \
            --no-install-recommends $(without_unknown $missing) >>"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "Installing packages failed; see above. By hand: apt-get install$missing" >&2
    return 1
}
