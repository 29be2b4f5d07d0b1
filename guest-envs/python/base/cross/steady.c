/* Preloaded into componentize-py, so that two builds of one source are one file: randomness, clocks, the times and numbers of
 * files and the order of folders are constant. They would be in the memory that is put into the component.
 *
 * Functions of libc are replaced by their names. Rust's file systems make system calls of their own: `rollcage_steady` installs a
 * seccomp filter by which those of interest become a signal, and its handler makes the call and corrects the result.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/stat.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* 2000-01-01, with which a guest's clock starts. */
#define EPOCH 946684800

/* What randomness is made of; a build may name another number, and gets another hash secret. */
static uint64_t chosen = 0x9e3779b97f4a7c15u;

__attribute__((constructor)) static void choose(void) {
    const char *named = getenv("ROLLCAGE_STEADY");
    if (named && *named) {
        chosen ^= strtoull(named, NULL, 10) * 0xbf58476d1ce4e5b9u;
    }
}

static void constant(unsigned char *bytes, size_t length) {
    uint64_t state = chosen;
    for (size_t i = 0; i < length; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (unsigned char)state;
    }
}

ssize_t getrandom(void *bytes, size_t length, unsigned flags) {
    constant(bytes, length);
    return (ssize_t)length;
}

int getentropy(void *bytes, size_t length) {
    constant(bytes, length);
    return 0;
}

/* When `rollcage_steady` was called, by the monotonic clock: it stands still from then on. */
static struct timespec stopped;

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        *now = (struct timespec){.tv_sec = EPOCH};
        return 0;
    }
    if (clock == CLOCK_MONOTONIC && stopped.tv_sec) {
        *now = stopped;
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    now->tv_sec = EPOCH;
    now->tv_usec = 0;
    return 0;
}

time_t time(time_t *now) {
    if (now) {
        *now = EPOCH;
    }
    return EPOCH;
}

#if defined(__x86_64__)

/* The one place from which the filter lets the calls through. */
long steady_call(long number, long a, long b, long c, long d, long e);
extern const char steady_after[] __attribute__((visibility("hidden")));
__asm__(
    ".text\n"
    ".globl steady_call\n"
    ".type steady_call, @function\n"
    "steady_call:\n"
    "  mov %rdi, %rax\n"
    "  mov %rsi, %rdi\n"
    "  mov %rdx, %rsi\n"
    "  mov %rcx, %rdx\n"
    "  mov %r8, %r10\n"
    "  mov %r9, %r8\n"
    "  syscall\n"
    ".globl steady_after\n"
    ".hidden steady_after\n"
    "steady_after:\n"
    "  ret\n");

static void correct_statx(struct statx *found) {
    struct statx_timestamp then = {.tv_sec = EPOCH};
    found->stx_atime = found->stx_btime = found->stx_ctime = found->stx_mtime = then;
    found->stx_ino = 1;
    found->stx_dev_major = found->stx_dev_minor = 0;
    found->stx_nlink = 1;
    found->stx_blocks = 0;
    if (S_ISDIR(found->stx_mode)) {
        found->stx_size = 4096;
    }
}

static void correct_stat(struct stat *found) {
    struct timespec then = {.tv_sec = EPOCH};
    found->st_atim = found->st_ctim = found->st_mtim = then;
    found->st_ino = 1;
    found->st_dev = 0;
    found->st_nlink = 1;
    found->st_blocks = 0;
    if (S_ISDIR(found->st_mode)) {
        found->st_size = 4096;
    }
}

struct entry {
    uint64_t ino;
    int64_t next;
    uint16_t length;
    uint8_t kind;
    char name[];
};

/* A folder that is read: all of its entries, in the order of their names. */
struct folder {
    int descriptor;
    char *entries;
    size_t length, given;
};

#define FOLDERS 64
static struct folder folders[FOLDERS];
static int lock;

static int by_name(const void *a, const void *b) {
    return strcmp((*(struct entry *const *)a)->name, (*(struct entry *const *)b)->name);
}

/* Reads the rest of a folder and sorts it; -errno: that cannot be. */
static long read_folder(struct folder *folder, int descriptor) {
    size_t room = 1 << 20, length = 0, count = 0;
    char *entries = malloc(room);
    for (;;) {
        if (room - length < 1 << 16) {
            entries = realloc(entries, room *= 2);
        }
        long got = steady_call(SYS_getdents64, descriptor, (long)(entries + length), 1 << 15, 0, 0);
        if (got < 0) {
            free(entries);
            return got;
        }
        if (got == 0) {
            break;
        }
        length += (size_t)got;
    }
    struct entry **order = malloc((length / sizeof(struct entry) + 1) * sizeof *order);
    for (size_t at = 0; at < length; at += order[count - 1]->length) {
        order[count++] = (struct entry *)(entries + at);
    }
    qsort(order, count, sizeof *order, by_name);
    char *sorted = malloc(length + 1);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = (struct entry *)(sorted + at);
        memcpy(entry, order[i], order[i]->length);
        entry->ino = 1;
        at += entry->length;
        entry->next = (int64_t)(i + 1);
    }
    free(order);
    free(entries);
    *folder = (struct folder){descriptor, sorted, length, 0};
    return 0;
}

/* `getdents64`, in the order of names. */
static long read_sorted(int descriptor, char *buffer, size_t room) {
    struct folder *folder = NULL, *empty = NULL;
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) {
    }
    for (int i = 0; i < FOLDERS; i++) {
        if (folders[i].entries && folders[i].descriptor == descriptor) {
            folder = &folders[i];
        } else if (!folders[i].entries) {
            empty = &folders[i];
        }
    }
    long result = 0;
    if (!folder) {
        folder = empty;
        result = folder ? read_folder(folder, descriptor) : -ENFILE;
    }
    if (result == 0) {
        while (folder->given < folder->length) {
            struct entry *entry = (struct entry *)(folder->entries + folder->given);
            if ((size_t)result + entry->length > room) {
                result = result ? result : -EINVAL;
                break;
            }
            memcpy(buffer + result, entry, entry->length);
            result += entry->length;
            folder->given += entry->length;
        }
        if (result == 0) {
            free(folder->entries);
            folder->entries = NULL;
        }
    }
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    return result;
}

static void corrected(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    long number = registers[REG_RAX], result;
    if (number == SYS_getdents64) {
        result = read_sorted((int)registers[REG_RDI], (char *)registers[REG_RSI], (size_t)registers[REG_RDX]);
    } else if (number == SYS_getrandom) {
        result = registers[REG_RSI];
        constant((unsigned char *)registers[REG_RDI], (size_t)result);
    } else {
        result = steady_call(number, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX], registers[REG_R10],
                             registers[REG_R8]);
        if (result == 0 && number == SYS_statx) {
            correct_statx((struct statx *)registers[REG_R8]);
        } else if (result == 0 && number == SYS_fstat) {
            correct_stat((struct stat *)registers[REG_RSI]);
        } else if (result == 0 && number == SYS_newfstatat) {
            correct_stat((struct stat *)registers[REG_RDX]);
        }
    }
    registers[REG_RAX] = result;
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, field)
#define SAME(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

/* From now on what the kernel says of these things is constant, in this thread and in those that it starts. Returns 0, or -1. */
int rollcage_steady(void) {
    uint64_t allowed = (uint64_t)(uintptr_t)steady_after;
    struct sock_filter filter[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        SAME(AUDIT_ARCH_X86_64, 0, 10),
        LOAD(offsetof(struct seccomp_data, nr)),
        SAME(SYS_statx, 4, 0),
        SAME(SYS_getrandom, 3, 0),
        SAME(SYS_fstat, 2, 0),
        SAME(SYS_newfstatat, 1, 0),
        SAME(SYS_getdents64, 0, 4),
        LOAD(offsetof(struct seccomp_data, instruction_pointer)),
        SAME((uint32_t)allowed, 0, 3),
        LOAD(offsetof(struct seccomp_data, instruction_pointer) + 4),
        SAME((uint32_t)(allowed >> 32), 0, 1),
        ANSWER(SECCOMP_RET_ALLOW),
        ANSWER(SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    struct sigaction action = {.sa_sigaction = corrected, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
        return -1;
    }
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &stopped);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#else

int rollcage_steady(void) {
    return -1;
}

#endif
