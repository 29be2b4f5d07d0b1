#!/bin/sh
# Starts a container by an engine's own command, in namespaces that end with this script:
#
#   unshare --mount --pid --fork --kill-child --net --uts sh engine.sh ENGINES ROOT ENGINE WORDS...
#
# ENGINE is docker, podman, podman-user, pod, slurm or apptainer.
# ENGINES is a root folder with the engines and all that they need. ROOT is the container's root folder: it is the image `image`
# of Docker's, and the folder /run/image for Podman, which needs no image. WORDS follow `docker run` or `podman run`.
# `podman-user` is Podman without root. For `pod`, the only word is the description of a pod, with the image
# `localhost/image:1`. For Slurm, which makes no container, WORDS follow `srun`. For Apptainer they follow `apptainer exec`, and
# the image is the file `image.sif`. What the program prints is all that is printed, unless the engine fails.
set -e
engines=$1 root=$2 engine=$3
shift 3
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

mount --make-rprivate /
mount --bind "$engines" "$engines"
mount --rbind /dev "$engines/dev"
mount --rbind /sys "$engines/sys"
mount -t proc proc "$engines/proc"
for folder in run tmp var/tmp var/lib/docker var/lib/containers var/spool home scratch etc/slurm etc/munge; do
    mkdir -p "$engines/$folder"
    mount -t tmpfs -o mode=1777 tmpfs "$engines/$folder"
done
cp -a "$root" "$engines/run/image"
cd "$engines"
mkdir -p old
pivot_root . old
umount -l /old
mount --make-rshared /

as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }

# Makes the user's home and further folders, and gives them and the image to the user.
make_home() {
    export HOME=/home/user USER=user
    mkdir "$HOME" "$@"
    chown -R 1000:1000 /run/image "$HOME" "$@"
}

# Waits until a command succeeds, for 30 s at most: until a daemon answers.
await_daemon() {
    tries=0
    until "$@" > /dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 150 ]; then cat /tmp/daemon.log >&2; exit 1; fi
        sleep 0.2
    done
}

case $engine in
docker)
    # A network would need rules of netfilter, and layers of files a file system that can be a layer.
    dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs > /tmp/daemon.log 2>&1 &
    await_daemon docker version
    tar -C /run/image -c . | docker import - image > /dev/null
    docker run --network none "$@" < /dev/null
    ;;
podman)
    podman --runtime runc run --network none "$@" < /dev/null
    ;;
podman-user)
    echo 'user:100000:65536' > /run/ids
    mount --bind /run/ids /etc/subuid
    mount --bind /run/ids /etc/subgid
    export XDG_RUNTIME_DIR=/run/user
    make_home "$XDG_RUNTIME_DIR"
    as_user podman --runtime runc run --network none "$@" < /dev/null
    ;;
slurm)
    # A cluster of this machine alone, on loopback.
    ip link set lo up
    ip address add 10.0.0.1/32 dev lo
    hostname node
    mkdir /run/munge /run/home /var/spool/node /var/spool/cluster
    chown 1000 /run/home
    head -c 1024 /dev/urandom > /etc/munge/munge.key
    chmod 400 /etc/munge/munge.key
    chmod 700 /etc/munge
    munged --force --log-file=/run/munged.log --seed-file=/run/munged.seed
    cat > /etc/slurm/slurm.conf << END
ClusterName=here
SlurmctldHost=node(127.0.0.1)
SlurmUser=root
StateSaveLocation=/var/spool/cluster
SlurmdSpoolDir=/var/spool/node
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
NodeName=node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=1000000
PartitionName=all Nodes=node Default=YES
END
    echo CgroupPlugin=disabled > /etc/slurm/cgroup.conf
    slurmctld -D > /tmp/daemon.log 2>&1 &
    slurmd -D >> /tmp/daemon.log 2>&1 &
    node_is_idle() { sinfo --noheader --format %T | grep -q idle; }
    await_daemon node_is_idle
    export PATH="/run/image/bin:$PATH" HOME=/run/home
    as_user srun "$@" < /dev/null
    ;;
pod)
    # As in most images: the volume of the pod has the rights of the folder that it covers.
    chmod 1777 /run/image/tmp
    tar -C /run/image -c . | podman import - localhost/image:1 > /dev/null 2> /tmp/import.log
    printf '%s' "$1" > /run/pod.yaml
    if ! podman --runtime runc kube play --network none /run/pod.yaml > /tmp/pod.log 2>&1; then
        cat /tmp/pod.log >&2
        exit 1
    fi
    # The pod has one container, and the pod's first process.
    container=$(podman ps --all --no-trunc --format '{{if not .IsInfra}}{{.ID}}{{end}}' | tr -d '\n')
    status=$(podman wait "$container")
    podman logs "$container"
    exit "$status"
    ;;
apptainer)
    # The device by which an ordinary user mounts an image. Elsewhere every user may open it.
    mknod -m 666 /run/fuse c 10 229
    mount --bind /run/fuse /dev/fuse
    make_home /scratch/user
    cd "$HOME"
    as_user apptainer --quiet build image.sif /run/image < /dev/null
    as_user apptainer --quiet exec "$@" < /dev/null
    ;;
esac
