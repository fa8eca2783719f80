/* What all kernels share: memory, and threads where torch's own cannot be used (in a forked process, or where
 * torch has no OpenMP).
 *
 * parallel(work, argument, n, 0) runs work(argument) in n threads, the caller's among them. Idle threads sleep.
 * A second caller at the same time gets threads of its own.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef void Work(void *);

static _Thread_local int number = 0, count = 1;

int thread_number(void) { return number; }
int thread_count(void) { return count; }

static struct {
    pthread_mutex_t lock, busy;
    pthread_cond_t start, done;
    long round, before; /* before: the round when the newest threads were made */
    int size, wanted, left; /* sleeping threads; those of this round; those not done */
    Work *work;
    void *argument;
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
          0, 0, 0, 0, 0, 0, 0};

static void renew(void) { /* in a forked child: the threads are not there */
    pthread_mutex_init(&pool.lock, 0);
    pthread_mutex_init(&pool.busy, 0);
    pthread_cond_init(&pool.start, 0);
    pthread_cond_init(&pool.done, 0);
    pool.size = 0;
}
__attribute__((constructor)) static void survive_fork(void) { pthread_atfork(0, 0, renew); }

static void *sleeper(void *place) {
    const int mine = (int)(long)place;
    pthread_mutex_lock(&pool.lock);
    long seen = pool.before;
    for (;;) {
        while (pool.round == seen) pthread_cond_wait(&pool.start, &pool.lock);
        seen = pool.round;
        if (mine >= pool.wanted) continue;
        number = mine, count = pool.wanted;
        pthread_mutex_unlock(&pool.lock);
        pool.work(pool.argument);
        pthread_mutex_lock(&pool.lock);
        if (--pool.left == 0) pthread_cond_signal(&pool.done);
    }
    return 0;
}

typedef struct {
    Work *work;
    void *argument;
    int number, count;
    _Atomic int *gate; /* 0: wait, 1: go, 2: go home */
} Once;

static void *once(void *given) {
    Once *task = given;
    while (!atomic_load(task->gate)) sched_yield();
    if (atomic_load(task->gate) == 2) return 0;
    number = task->number, count = task->count;
    task->work(task->argument);
    return 0;
}

static void alone(Work *work, void *argument, int n) { /* with threads made for this call */
    pthread_t threads[n];
    Once tasks[n];
    _Atomic int gate = 0;
    int made = 1;
    for (; made < n; made++) {
        tasks[made] = (Once){work, argument, made, n, &gate};
        if (pthread_create(&threads[made], 0, once, &tasks[made])) break;
    }
    atomic_store(&gate, made == n ? 1 : 2);
    number = 0, count = made == n ? n : 1; /* with too few threads the kernel sees that it is alone, and starts again */
    work(argument);
    count = 1;
    for (int k = 1; k < made; k++) pthread_join(threads[k], 0);
}

void parallel(Work *work, void *argument, unsigned wanted, unsigned flags) {
    const int n = (int)wanted;
    (void)flags;
    if (pthread_mutex_trylock(&pool.busy)) {
        alone(work, argument, n);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    pool.before = pool.round;
    for (; pool.size < n - 1; pool.size++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, sleeper, (void *)(long)(pool.size + 1))) break;
        pthread_detach(thread);
    }
    if (pool.size < n - 1) { /* no more threads to be had: the kernel sees that it is alone, and starts again */
        pthread_mutex_unlock(&pool.lock);
        pthread_mutex_unlock(&pool.busy);
        number = 0, count = 1;
        work(argument);
        return;
    }
    pool.work = work, pool.argument = argument, pool.wanted = n, pool.left = n - 1;
    pool.round++;
    pthread_cond_broadcast(&pool.start);
    pthread_mutex_unlock(&pool.lock);
    number = 0, count = n;
    work(argument);
    pthread_mutex_lock(&pool.lock);
    while (pool.left) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    count = 1;
    pthread_mutex_unlock(&pool.busy);
}

/* Linux permits the tiles of the matrix unit (Intel AMX) to a process that asks, and to those that it forks. It refuses
   where there are none, and where the stack for signals of some thread would be too small. */
int permit_amx(void) {
#if defined(__linux__) && defined(__x86_64__)
    return !syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */);
#else
    return 0;
#endif
}

/* ---- memory that is used again, because new memory costs a page fault for every 4 KiB ---- */

typedef struct Block {
    struct Block *next;
    size_t size;
} Block;
static Block *free_blocks;
static size_t free_bytes;
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
#define KEPT ((size_t)512 << 20) /* of free memory, at most */

/* Large new memory in large pages: a page fault for each 4 KiB would cost more than the work on it. */
void in_large_pages(void *memory, size_t size) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 4096, from = ((uintptr_t)memory + page - 1) & ~(page - 1), to = ((uintptr_t)memory + size) & ~(page - 1);
    if (size >= 4 << 20 && to > from) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)memory, (void)size;
#endif
}

void *take(size_t size) {
    pthread_mutex_lock(&blocks_lock);
    for (Block **at = &free_blocks; *at; at = &(*at)->next)
        if ((*at)->size >= size && (*at)->size <= 4 * size + 4096) {
            Block *block = *at;
            *at = block->next;
            free_bytes -= block->size;
            pthread_mutex_unlock(&blocks_lock);
            return (char *)block + 64;
        }
    pthread_mutex_unlock(&blocks_lock);
    size = (size + 4095) & ~(size_t)4095;
    Block *block = aligned_alloc(4096, size + 4096);
    if (!block) return 0;
    in_large_pages(block, size);
    block->size = size;
    return (char *)block + 64;
}
void give(void *memory) {
    Block *block = (Block *)((char *)memory - 64);
    pthread_mutex_lock(&blocks_lock);
    int keep = free_bytes + block->size <= KEPT;
    if (keep) {
        block->next = free_blocks;
        free_blocks = block;
        free_bytes += block->size;
    }
    pthread_mutex_unlock(&blocks_lock);
    if (!keep) free(block);
}
static void lock_blocks(void) { pthread_mutex_lock(&blocks_lock); }
static void unlock_blocks(void) { pthread_mutex_unlock(&blocks_lock); }
__attribute__((constructor)) static void survive_fork_too(void) {
    pthread_atfork(lock_blocks, unlock_blocks, unlock_blocks);
}
