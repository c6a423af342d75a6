/* Fibres for the threads of a block: contexts start them once, jumps switch between them, which ask nothing of the
 * system. */
#include "cuda/emulate/emulate.h"

#include <cstdio>
#include <csetjmp>
#include <cstdlib>
#include <ucontext.h>

namespace nano_emulate {

enum { MAX_THREADS = 1024, STACK = 64 * 1024, LANE_BYTES = 16 };

enum state { READY, AT_BARRIER, AT_EXCHANGE, DONE };

struct fibre {
    thread t;
    ucontext_t context;
    jmp_buf jump;
    bool is_started;
    state at;
    alignas(16) unsigned char stack[STACK];
};

thread *self;
static fibre fibres[MAX_THREADS];
alignas(16) static unsigned char slots[MAX_THREADS][LANE_BYTES];
static jmp_buf scheduler;
static fibre *running;
static const kernel *current;
static const void *arguments;
static kernel *kernels;

kernel::kernel(const char *its_name, run_fn *its_run, unsigned its_bytes)
    : name(its_name), run(its_run), bytes(its_bytes), next(kernels) {
    kernels = this;
}

const kernel *find(const char *name) {
    const kernel *k = kernels;
    while (k != nullptr && std::strcmp(k->name, name) != 0) {
        k = k->next;
    }
    return k;
}

[[noreturn]] static void fail(const char *what) {
    std::fprintf(stderr, "emulation of %s: block (%u, %u, %u): %s\n", current->name, running->t.block.x,
                 running->t.block.y, running->t.block.z, what);
    std::abort();
}

static void wait(state what) {
    running->at = what;
    if (_setjmp(running->jump) == 0) {
        _longjmp(scheduler, 1);
    }
}

void barrier() { wait(AT_BARRIER); }

void exchange(const void *value, unsigned bytes) {
    if (bytes > LANE_BYTES) {
        fail("a shuffle of too many bytes");
    }
    std::memcpy(slots[self->warp * 32 + self->lane], value, bytes);
    wait(AT_EXCHANGE);
}
const void *given(unsigned lane) { return slots[self->warp * 32 + lane]; }
/* Nobody may give again before all have taken. */
void exchange_done() { wait(AT_EXCHANGE); }

/* A fibre runs one thread of a block after the other. */
static void body() {
    for (;;) {
        current->run(arguments);
        wait(DONE);
    }
}

static void run_until_waiting(fibre *f) {
    f->at = READY;
    running = f;
    self = &f->t;
    if (_setjmp(scheduler) != 0) {
        return;
    }
    if (f->is_started) {
        _longjmp(f->jump, 1);
    }
    f->is_started = true;
    setcontext(&f->context);
}

/* Lets threads go on whose whole warp has arrived; how many. */
static unsigned release_warps(unsigned n) {
    unsigned released = 0;
    for (unsigned first = 0; first < n; first += 32) {
        unsigned waiting = 0;
        const unsigned end = first + 32 < n ? first + 32 : n;
        for (unsigned i = first; i < end; i++) {
            waiting += fibres[i].at == AT_EXCHANGE ? 1 : 0;
        }
        if (waiting == end - first) {
            for (unsigned i = first; i < end; i++) {
                run_until_waiting(&fibres[i]);
                released++;
            }
        }
    }
    return released;
}

static bool all(unsigned n, state what) {
    for (unsigned i = 0; i < n; i++) {
        if (fibres[i].at != what) {
            return false;
        }
    }
    return true;
}

static void make(fibre *f) {
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, body, 0);
}

static void run_block(unsigned n, uint3 block) {
    for (unsigned i = 0; i < n; i++) {
        fibres[i].t = {{i, 0, 0}, block, i / 32, i % 32};
        if (!fibres[i].is_started) {
            make(&fibres[i]);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        run_until_waiting(&fibres[i]);
    }
    while (!all(n, DONE)) {
        if (all(n, AT_BARRIER)) {
            for (unsigned i = 0; i < n; i++) {
                run_until_waiting(&fibres[i]);
            }
        } else if (release_warps(n) == 0) {
            fail("threads wait at different places");
        }
    }
}

void launch(const kernel *k, uint3 grid, unsigned threads, const void *params) {
    current = k;
    arguments = params;
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                run_block(threads, {x, y, z});
            }
        }
    }
}

} // namespace nano_emulate
