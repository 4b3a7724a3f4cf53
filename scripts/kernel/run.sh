#!/usr/bin/env bash
# Puts /dev/walkbench_hmm (scripts/kernel/module) into a real kernel, runs that kernel as an ordinary process (User Mode
# Linux: native code, no root, no KVM) and has `walkbench live` ask it. With a second tree or a patch: one kernel against
# the other, in turns. For answers in place of times, the same in qemu, which emulates a machine with huge pages and swap:
# `walkbench record`.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$HERE/../.." && pwd)
TARBALL=/usr/src/linux-source-6.12.tar.xz
PACKAGES=(linux-source-6.12 gcc make libc6-dev libelf-dev flex bison bc xz-utils patch cpio busybox-static qemu-system-x86 seabios)

usage() {
    cat <<USAGE
usage: scripts/kernel/run.sh [options] WORKDIR [stage...]

WORKDIR is a folder outside the repository for trees, builds, logs and results. Stages, by default live and what it
needs; each does only what was not done before (rm -r WORKDIR/a, b or qemu to do it again):
  deps     install what is missing with apt-get: ${PACKAGES[*]}
  build    unpack Debian's linux-source-6.12 (or copy --tree), add the device, configure, compile  -> WORKDIR/a/linux
  payload  compile walkbench, static                                                  -> WORKDIR/payload/walkbench
  live     what hmm_range_fault takes in this kernel                                  -> WORKDIR/live.json
  beside   the same, and the model on the host: a results folder for walkbench report -> WORKDIR/beside
  ab       the second kernel (--patch or --against), then both in turns               -> WORKDIR/ab, WORKDIR/ab.txt
  qemu-build  the same kernel for an emulated x86-64                                  -> WORKDIR/qemu/bzImage
  smp-build   the same for two processors: for record --class races                   -> WORKDIR/smp/bzImage
  record   random scenarios, what that kernel answers to them, and what the model      -> WORKDIR/truth
  count    live in that kernel, and its own test_hmm, at 1 ns for every instruction    -> WORKDIR/count.json

options:
  --tree DIR      kernel sources in place of Debian's; they are copied, not changed
  --patch FILE    for ab: the second kernel is the first one with this patch (-p1)
  --against DIR   for ab: the second kernel's sources
  --size SIZE     memory of a row (16MiB, for ab 128MiB)
  --launches N    launches of live (6), or for ab guests of each kernel (12)
  --seed S        for record: which scenarios (1)
  --count N       for record: how many (1000)
  --class NAME    for record: only of this class; dev (memory of a device), held and waits (in migration) and
                  races (two processors) are never among the others
  --timeout S     a guest that takes longer is killed, its log is kept (900)
  --jobs N        compilers at once (all processors)

Needs an x86-64 Debian or Ubuntu, cargo, 2.5 GB of disk for each kernel and 1.5 GB for walkbench, 2 GB of memory. The first time about
8 minutes on two cores (kernel 2, walkbench 5, live 1), ab 5 more, record 7 more (kernel 4, 1000 scenarios 3); later
seconds and the measuring. root only for deps.
USAGE
}

fail() {
    printf 'run.sh: %s\n' "$*" >&2
    exit 2
}
say() { printf '== %s\n' "$*" >&2; }

TREE='' PATCH='' AGAINST='' SIZE='' LAUNCHES='' SEED=1 COUNT=1000 CLASS='' TIMEOUT=900 JOBS=$(nproc)
while [[ ${1-} == -* ]]; do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --tree | --patch | --against | --size | --launches | --seed | --count | --class | --timeout | --jobs)
        [[ $# -ge 2 ]] || fail "$1: expected a value; see --help"
        case $1 in
        --tree) TREE=$2 ;;
        --patch) PATCH=$2 ;;
        --against) AGAINST=$2 ;;
        --size) SIZE=$2 ;;
        --launches) LAUNCHES=$2 ;;
        --seed) SEED=$2 ;;
        --count) COUNT=$2 ;;
        --class) CLASS=$2 ;;
        --timeout) TIMEOUT=$2 ;;
        --jobs) JOBS=$2 ;;
        esac
        shift 2
        ;;
    *) fail "$1: no such option; see --help" ;;
    esac
done
[[ $# -ge 1 ]] || {
    usage >&2
    exit 2
}
W=$1
shift
STAGES=("$@")
[[ ${#STAGES[@]} -gt 0 ]] || STAGES=(live)

for number in "--seed=$SEED" "--count=$COUNT" "--timeout=$TIMEOUT" "--jobs=$JOBS" "--launches=${LAUNCHES:-1}"; do
    [[ ${number#*=} =~ ^[1-9][0-9]{0,5}$ ]] || fail "${number/=/ }: expected a whole number, at least 1"
done
[[ $CLASS =~ ^[a-z]*$ ]] || fail "--class $CLASS: expected the name of a class"
for tree in "$TREE" "$AGAINST"; do
    [[ -z $tree || -f $tree/mm/hmm.c ]] || fail "$tree: expected the sources of a kernel, with mm/hmm.c"
done
[[ -z $PATCH || -r $PATCH ]] || fail "--patch $PATCH: expected a patch that can be read"
[[ -z $PATCH || -z $AGAINST ]] || fail "--patch and --against: expected one of the two"
for stage in "${STAGES[@]}"; do
    case $stage in
    deps | build | payload | live | beside | ab | qemu-build | smp-build | record | count) ;;
    *) fail "$stage: no such stage; see --help" ;;
    esac
done
[[ " ${STAGES[*]} " != *' ab '* || -n $PATCH$AGAINST ]] ||
    fail "ab: expected --patch FILE or --against DIR; scripts/kernel/patches has an example"
W=$(realpath -m "$W")
[[ $W/ != "$REPOSITORY"/* ]] || fail "$W: expected a folder outside the repository"
[[ $W =~ ^[A-Za-z0-9/._+-]+$ ]] || fail "$W: expected a path without spaces: make and a kernel's command line take none"
[[ -z $TREE ]] || TREE=$(realpath "$TREE")
[[ -z $PATCH ]] || PATCH=$(realpath "$PATCH")
[[ -z $AGAINST ]] || AGAINST=$(realpath "$AGAINST")
mkdir -p "$W/logs"
# One at a time in a folder.
exec 9> "$W/.lock"
flock -n 9 || fail "$W: another run.sh works there"

# run_logged NAME COMMAND...: its output goes to a log, of which the end is shown if it fails.
run_logged() {
    local log=$W/logs/$1.log
    shift
    "$@" > "$log" 2>&1 9>&- || {
        tail -n 25 "$log" >&2
        fail "$* failed; all of it: $log"
    }
}
room() { # room GIGABYTES WHAT
    local free
    free=$(df --output=avail -B1M "$W" | tail -n 1)
    ((free >= $1 * 1024)) || fail "$W: $2 needs $1 GB of disk, $((free / 1024)) GB are free"
}

stage_deps() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    say "installing ${missing[*]}"
    run_logged deps env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}"
}

needs() {
    local command
    for command in "$@"; do
        command -v "$command" > /dev/null || fail "$command is missing; 'run.sh $W deps' installs what Debian has (as root): ${PACKAGES[*]}"
    done
}

# add_device TREE: as a driver of that tree, with the module's own Kconfig and Kbuild.
add_device() {
    local to=$1/drivers/misc/walkbench_hmm
    mkdir -p "$to"
    # With its times: make sees what changed.
    cp -p "$HERE"/module/{walkbench_hmm.c,walkbench_hmm.h,Kconfig,Kbuild} "$to/"
    # shellcheck disable=SC2016 # make expands it
    grep -qs walkbench_hmm "$1/drivers/misc/Makefile" ||
        echo 'obj-$(CONFIG_WALKBENCH_HMM) += walkbench_hmm/' >> "$1/drivers/misc/Makefile"
    grep -qs walkbench_hmm "$1/drivers/misc/Kconfig" ||
        sed -i '/^endmenu/i source "drivers/misc/walkbench_hmm/Kconfig"' "$1/drivers/misc/Kconfig"
}

# fit_host TREE: 6.12 keeps 2,696 bytes of a process's vector registers; a host with AMX has 11,008, and its guests die at
# their first context switch ("ptrace set fp regs failed, errno = 14"). Later kernels ask the host.
fit_host() {
    sed -i 's/DEFINE_LONGS(HOST_FP_SIZE, 2696)/DEFINE_LONGS(HOST_FP_SIZE, 12288)/' "$1/arch/x86/um/user-offsets.c"
}

# made_of NAME WHAT: WORKDIR/NAME is of these sources, or of none yet.
made_of() {
    [[ ! -d $W/$1/tree || $(cat "$W/$1/made_of" 2> /dev/null) == "$2" ]] ||
        fail "$W/$1 was made of $(cat "$W/$1/made_of" 2> /dev/null || echo 'other sources'), this is $2: rm -r $W/$1, or take another WORKDIR"
    mkdir -p "$W/$1"
    echo "$2" > "$W/$1/made_of"
}

copy_sources() { tar cf - -C "$1" --exclude=./.git . | tar xf - -C "$2"; }

# arch_of NAME: what WORKDIR/NAME is compiled for.
arch_of() { [[ $1 == qemu || $1 == smp ]] && echo x86 || echo um; }
# configs_of NAME: the fragments that WORKDIR/NAME is configured by.
configs_of() {
    case $1 in
    qemu) echo "$HERE/qemu.config" ;;
    smp) echo "$HERE/qemu.config $HERE/smp.config" ;;
    *) echo "$HERE/um.config" ;;
    esac
}
# tree_of NAME FROM: sources into WORKDIR/NAME/tree, whole or not at all; what changed in FROM since then too.
tree_of() {
    local to=$W/$1/tree from=$2
    made_of "$1" "${from:-$TARBALL}"
    if [[ -d $to ]]; then
        [[ -z $from ]] || update "$from" "$to" "$W/$1/copied"
        return 0
    fi
    needs tar xz
    room 3 "a kernel"
    rm -rf "$to.part"
    mkdir -p "$to.part"
    if [[ -n $from ]]; then
        say "copying $from"
        touch "$W/$1/copied"
        run_logged "$1.copy" copy_sources "$from" "$to.part"
        # What another architecture was configured and compiled to.
        run_logged "$1.mrproper" make -C "$to.part" ARCH="$(arch_of "$1")" mrproper
    else
        [[ -r $TARBALL ]] || fail "$TARBALL is missing; 'run.sh $W deps' installs it (as root), or --tree DIR names other sources"
        say "unpacking $TARBALL"
        run_logged "$1.unpack" tar xf "$TARBALL" -C "$to.part" --strip-components=1
    fi
    fit_host "$to.part"
    mv "$to.part" "$to"
}

# update FROM TO STAMP: sources that were written since the stamp.
update() {
    touch "$3.new"
    (cd "$1" && find . -type f -newer "$3" \( -name '*.[chS]' -o -name 'Kconfig*' -o -name Makefile -o -name Kbuild \) \
        -not -path './.git/*' -not -path '*/generated/*' -not -name '*.mod.c' -print0 | xargs -0r cp --parents -t "$2")
    fit_host "$2"
    mv "$3.new" "$3"
}

# kernel_of NAME IMAGE: configures and compiles WORKDIR/NAME/tree; IMAGE is what comes out of it. make itself knows what is
# left to do.
kernel_of() {
    local tree=$W/$1/tree image=$1/${2##*/} arch configs line
    arch=$(arch_of "$1")
    read -ra configs <<< "$(configs_of "$1")"
    needs gcc make flex bison bc
    add_device "$tree"
    if [[ ! -f $tree/.config ]]; then
        say "configuring $1"
        run_logged "$1.tinyconfig" make -C "$tree" ARCH="$arch" tinyconfig
        # merge_config.sh works where it is called.
        run_logged "$1.merge" bash -c "cd '$tree' && ./scripts/kconfig/merge_config.sh -m .config \"\$@\"" _ "${configs[@]}"
        run_logged "$1.olddefconfig" make -C "$tree" ARCH="$arch" olddefconfig
        while read -r line; do
            [[ $line != CONFIG_*=* ]] || grep -qxF "$line" "$tree/.config" || {
                mv "$tree/.config" "$W/logs/$1.config"
                fail "$line is not possible in this kernel; its configuration: $W/logs/$1.config"
            }
        done < <(cat "${configs[@]}")
    fi
    [[ -e $W/$image ]] || say "compiling $1: minutes the first time; $W/logs/$1.make.log"
    run_logged "$1.make" make -C "$tree" ARCH="$arch" -j"$JOBS" KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=walkbench KBUILD_BUILD_HOST=walkbench "${2##*/}"
    cmp -s "$tree/$2" "$W/$image" || cp "$tree/$2" "$W/$image"
}

stage_build() {
    tree_of a "$TREE"
    kernel_of a linux
}

stage_qemu-build() {
    tree_of qemu "$TREE"
    kernel_of qemu arch/x86/boot/bzImage
}

stage_smp-build() {
    tree_of smp "$TREE"
    kernel_of smp arch/x86/boot/bzImage
}

# The second kernel: other sources, or the first one's tree, objects and all, with a patch: make compiles what it changed.
second_kernel() {
    if [[ -n $AGAINST ]]; then
        tree_of b "$AGAINST"
    else
        made_of b "kernel $(sha256sum < "$W/a/linux" | cut -c1-16) with patch $(sha256sum < "$PATCH" | cut -c1-16)"
        if [[ ! -d $W/b/tree ]]; then
            room 3 "a second kernel"
            rm -rf "$W/b/tree.part"
            say "copying the first kernel"
            cp -a "$W/a/tree" "$W/b/tree.part"
            run_logged b.patch patch -d "$W/b/tree.part" -p1 --forward -i "$PATCH"
            mv "$W/b/tree.part" "$W/b/tree"
        fi
    fi
    kernel_of b linux
}

stage_payload() {
    needs cargo busybox
    room 2 "walkbench"
    say "compiling walkbench, static: 5 minutes the first time; $W/logs/payload.log"
    # Named, so that the flags are for the program and not for what compiles it.
    run_logged payload env RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR="$W/payload/target" \
        cargo build --manifest-path "$REPOSITORY/Cargo.toml" --release --locked --target x86_64-unknown-linux-gnu
    cp "$W/payload/target/x86_64-unknown-linux-gnu/release/walkbench" "$W/payload/walkbench"
}

# root_of NAME COMMAND: a fresh root in $ROOT, whose first process runs the command in /out.
root_of() {
    ROOT=$W/guest.$1
    rm -rf "$ROOT"
    mkdir -p "$ROOT"/{bin,dev,proc,sys,tmp,out}
    cp "$(command -v busybox)" "$ROOT/bin/busybox"
    ln "$W/payload/walkbench" "$ROOT/bin/walkbench"
    cp "$HERE/init" "$ROOT/init"
    printf 'exec %s\n' "$2" > "$ROOT/job"
}

# bounded LOG COMMAND...: a guest, and what it says of itself; leaves its status in $STATUS.
bounded() {
    local log=$1 pid
    shift
    STATUS=0
    timeout -k 10 "$TIMEOUT" "$@" < /dev/null > "$log" 2>&1 9>&- &
    pid=$!
    # Whatever ends this script ends its guest.
    trap 'kill "$pid" 2> /dev/null || true; exit 130' INT TERM
    wait "$pid" || STATUS=$?
    trap - INT TERM
    if [[ $STATUS == 124 || $STATUS == 137 ]]; then
        fail "the guest took longer than $TIMEOUT s (--timeout) and was killed; $log, $ROOT/out"
    fi
}

# ended LOG: whether the guest's job did what it should.
ended() {
    [[ -f $ROOT/out/status ]] || fail "the guest ended before its job did; $1"
    if [[ $(cat "$ROOT/out/status") != 0 ]]; then
        tail -n 25 "$ROOT/out/stderr" >&2
        fail "walkbench ended with $(cat "$ROOT/out/status") in the guest; $ROOT/out/stderr"
    fi
}

# guest KERNEL NAME COMMAND: runs it in User Mode Linux, in /out of a root of its own. Leaves the root in $ROOT.
guest() {
    local kernel=$W/$1/linux log=$W/logs/guest.$2.log
    root_of "$2" "$3"
    # Memory of the guest is a file: in memory where there is such a place.
    local tmp=/dev/shm
    [[ -w $tmp ]] || tmp=$W
    bounded "$log" env TMPDIR="$tmp" "$kernel" mem=1536M root=/dev/root rootfstype=hostfs "rootflags=$ROOT" rw init=/init \
        con=null con0=null,fd:1 quiet uml_dir="$W/uml" umid="walkbench-$$"
    ended "$log"
}

# emulated KERNEL NAME COMMAND OPTION...: the same in qemu, whose root is an archive in its memory and whose /out comes back
# on a disk. The kernel is qemu, or smp for a machine with two processors, which run at the same time. A pool of hugetlb pages is there from the start. Without protection keys, so that memory which may only be executed can be read, as the model has it.
emulated() {
    local kernel=$W/$1 log=$W/logs/guest.$2.log threads=single processors=1
    local archive=$kernel/root.cpio.gz disk=$kernel/disk
    needs qemu-system-x86_64 cpio gzip tar
    [[ $1 != smp ]] || threads=multi processors=2
    root_of "$2" "$3"
    shift 3
    (cd "$ROOT" && find . | cpio -o -H newc --quiet | gzip -1) > "$archive"
    rm -f "$disk"
    truncate -s 256M "$disk"
    bounded "$log" qemu-system-x86_64 -accel tcg,thread=$threads -cpu max,la57=off,pku=off -m 2560 -smp $processors -nodefaults \
        -display none -no-reboot -serial stdio -drive file="$disk",format=raw,if=virtio -kernel "$kernel/bzImage" \
        "$@" -initrd "$archive" -append 'console=ttyS0 quiet panic=-1 brd.rd_nr=2 brd.rd_size=262144 hugepages=64'
    tar xf "$disk" -C "$ROOT/out" 2> /dev/null || true
    rm -f "$disk" "$archive"
    ended "$log"
}

# In a guest without a second processor nothing churns, and system calls and page faults of its programs are a hundred times slower
# than a kernel's: what says something is timed inside the kernel.
ROWS='^hmm_range_fault.*/none$'
# The kernel's own test driver, timed from outside: where instructions are counted, and elsewhere to say that it is not there
# (User Mode Linux has no memory of devices).
DRIVER_ROWS='^hmm_dmirror.*/none$'

stage_live() {
    stage_build
    stage_payload
    say "walkbench live in User Mode Linux"
    guest a live "walkbench live --filter '$ROWS|$DRIVER_ROWS' --size ${SIZE:-16MiB} --launches ${LAUNCHES:-6} --format json"
    mv "$ROOT/out/stdout" "$W/live.json"
    rm -rf "$ROOT"
    say "$W/live.json"
}

stage_beside() {
    stage_live
    say "walkbench run --question kernel on the host, with the same program"
    rm -rf "$W/beside"
    run_logged beside env -C "$W" payload/walkbench run --question kernel --launches "${LAUNCHES:-6}" --budget 60 --out beside
    cp "$W/live.json" "$W/beside/live.json"
    say "walkbench report $W/beside"
}

stage_ab() {
    stage_build
    second_kernel
    stage_payload
    rm -rf "$W/ab"
    mkdir -p "$W/ab/a" "$W/ab/b"
    local n=${LAUNCHES:-12} i side order
    for ((i = 1; i <= n; i++)); do
        # A guest is a launch. Who is first changes: what drifts hits both.
        order=(a b)
        ((i % 2)) || order=(b a)
        for side in "${order[@]}"; do
            say "$i of $n: $side"
            guest "$side" "ab-$side" "walkbench live --filter '$ROWS' --size ${SIZE:-128MiB} --launches 1 --format json"
            mv "$ROOT/out/stdout" "$W/ab/$side/$(printf %04d "$i").json"
            rm -rf "$ROOT"
        done
    done
    "$W/payload/walkbench" kernels "$W/ab/a" "$W/ab/b" | tee "$W/ab.txt"
}

# Timed by the program, and not inside the kernel, are dont_need and the test driver: one system call for all of the memory.
# Clearing a page counts by its words, and not by the bytes that a fast string instruction would take one by one.
stage_count() {
    stage_qemu-build
    stage_payload
    say "walkbench live in qemu, an instruction a nanosecond"
    emulated qemu count "walkbench live --filter '$ROWS|$DRIVER_ROWS|^dont_need' --size ${SIZE:-16MiB} --launches ${LAUNCHES:-1} --format json" \
        -icount shift=0,sleep=off -cpu max,la57=off,pku=off,erms=off,fsrm=off
    mv "$ROOT/out/stdout" "$W/count.json"
    rm -rf "$ROOT"
    say "$W/count.json: read ns as instructions"
}

stage_record() {
    local machine=qemu
    [[ $CLASS != races ]] || machine=smp
    "stage_$machine-build"
    stage_payload
    local name=${CLASS:-scenarios}-$SEED
    mkdir -p "$W/truth"
    say "walkbench record in qemu: $COUNT ${CLASS:+$CLASS }scenarios of seed $SEED"
    emulated $machine record "walkbench record --own-machine ${CLASS:+--class $CLASS }--seed $SEED --count $COUNT --out scenarios.jsonl"
    gzip -9n < "$ROOT/out/scenarios.jsonl" > "$W/truth/$name.jsonl.gz"
    rm -rf "$ROOT"
    say "$W/truth/$name.jsonl.gz"
    # That the model differs is a finding, and this script has done its work.
    "$W/payload/walkbench" conform "$W/truth/$name.jsonl.gz" | tee "$W/truth/$name.txt" || true
}

say "$W: ${STAGES[*]}; 2.5 GB of disk a kernel and 1.5 GB for walkbench, 2 GB of memory; the first time about 8 minutes on two cores"
for stage in "${STAGES[@]}"; do
    start=$SECONDS
    "stage_$stage"
    say "$stage: $((SECONDS - start)) s"
done
