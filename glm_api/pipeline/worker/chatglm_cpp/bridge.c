/* What chatglm_cpp 0.4.2 does not offer: its logits, its number of threads, Python's lock, and an end to a computation.
 *
 * The extension exports its C and C++ functions and calls them through its procedure linkage table. `bridge.py` opens
 * this library with RTLD_GLOBAL before it imports the extension, so the functions of the same names here are found
 * first. After the import it hands in the addresses of the real ones (bridge_connect).
 *
 * All of it belongs to one computation at a time: chatglm_cpp is called by one thread. Only bridge_abort and
 * bridge_nodes may be called by another.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

typedef void (*logits_hook)(float *logits, size_t count);

/* How struct ggml_cgraph begins. */
struct graph {
    int size;
    int node_count;
    int leaf_count;
    void **nodes;
};

static int (*real_compute)(void *, void *);
static int (*real_compute_on_cpu)(struct graph *, void *);
static void (*real_set_threads)(void *, int);
static size_t (*real_get_size)(void *);
static bool (*real_reserve)(void *, void *, const int *, const int *);
static void *(*save_thread)(void);
static void (*restore_thread)(void *);

/* ggml's status for a computation that its abort callback has ended. */
enum { ABORTED = 1 };

/* ggml starts its threads anew for each part of a graph, which takes them some ten microseconds. */
#define PART_SECONDS 0.03

static bool reserving;
static bool only_allocating;
static logits_hook hook;
static int threads;
static atomic_bool aborting;
/* See bridge_set_threads; the deadline is in seconds of the monotonic clock. */
static double expected;
static double deadline;
static bool late;
/* Counted since the library was opened. */
static atomic_uint nodes;
static atomic_uint computations;
static atomic_uint thread_settings;
static atomic_uint reservations;

void bridge_connect(void *compute, void *set_threads, void *get_size, void *reserve, void *compute_on_cpu, void *save,
                    void *restore) {
    real_compute = compute;
    real_set_threads = set_threads;
    real_get_size = get_size;
    real_reserve = reserve;
    real_compute_on_cpu = compute_on_cpu;
    save_thread = save;
    restore_thread = restore;
}

/* Called with the logits before each choice whose repetition penalty is not 1. */
void bridge_set_hook(logits_hook function) { hook = function; }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* For the computations that follow. 0 threads, as in the beginning: as many as chatglm_cpp wants. The next computation
 * should take `seconds` (0: unknown), and is ended if it takes more than `most` (0: never). */
void bridge_set_threads(int count, double seconds, double most) {
    threads = count;
    expected = seconds;
    deadline = most > 0 ? now() + most : 0;
    late = false;
}

/* Whether the last computation has ended because it took too long. */
bool bridge_late(void) { return late; }

/* While it is set, a computation on the CPU ends within a few hundredths of a second, and each further one at once. */
void bridge_abort(bool wanted) { atomic_store(&aborting, wanted); }

/* While it is set, an evaluation allocates the memory of its graph and computes nothing. */
void bridge_only_allocate(bool wanted) { only_allocating = wanted; }

unsigned bridge_nodes(void) { return atomic_load(&nodes); }
unsigned bridge_computations(void) { return atomic_load(&computations); }
unsigned bridge_thread_settings(void) { return atomic_load(&thread_settings); }
unsigned bridge_reservations(void) { return atomic_load(&reservations); }

/* chatglm_cpp calls this before each computation. */
void ggml_backend_cpu_set_n_threads(void *backend, int wanted) {
    atomic_fetch_add_explicit(&thread_settings, 1, memory_order_relaxed);
    real_set_threads(backend, threads > 0 ? threads : wanted);
}

/* Part by part, so that it can be ended in between. ggml's own abort callback does not serve: each thread calls it, and
 * when they get different answers they wait for one another for ever. */
int ggml_graph_compute(struct graph *graph, void *plan) {
    void **nodes_of_all = graph->nodes;
    int count = graph->node_count, status = 0;
    double part = expected > 0 ? count * PART_SECONDS / expected : count / 64;
    for (int done = 0; done < count && status == 0;) {
        double began = now();
        late = deadline > 0 && began > deadline;
        if (late || atomic_load(&aborting)) {
            status = ABORTED;
            break;
        }
        int size = part < 1 ? 1 : part < count - done ? (int)part : count - done;
        graph->nodes = nodes_of_all + done;
        graph->node_count = size;
        status = real_compute_on_cpu(graph, plan);
        done += size;
        atomic_fetch_add(&nodes, (unsigned)size);
        double took = now() - began;
        if (took < PART_SECONDS / 2)
            part = 2.0 * size;
        else if (took > PART_SECONDS * 2)
            part = size / 2;
    }
    graph->nodes = nodes_of_all;
    graph->node_count = count;
    return status;
}

/* All of the time is spent here; without Python's lock the other threads of the process go on. */
int ggml_backend_graph_compute(void *backend, void *graph) {
    if (only_allocating)
        return ABORTED;
    atomic_fetch_add_explicit(&computations, 1, memory_order_relaxed);
    void *state = save_thread();
    int status = real_compute(backend, graph);
    restore_thread(state);
    return status;
}

/* ggml adds 32 bytes to what it allocates, for a first address that is a multiple of 32, and counts them in. So a graph
 * that needs up to 32 bytes more than the buffer was made for gets no larger one, and writes past its end. The graphs of
 * an answer grow by a few bytes a token. */
bool ggml_gallocr_reserve_n(void *allocator, void *graph, const int *node_buffers, const int *leaf_buffers) {
    atomic_fetch_add_explicit(&reservations, 1, memory_order_relaxed);
    reserving = true;
    bool done = real_reserve(allocator, graph, node_buffers, leaf_buffers);
    reserving = false;
    return done;
}

size_t ggml_backend_buffer_get_size(void *buffer) {
    size_t size = real_get_size(buffer);
    return reserving && size > 32 ? size - 32 : size;
}

/* chatglm::BaseModelForCausalLM::sampling_repetition_penalty(float *first, float *last, vector<int> const &ids, float)
 *
 * It gets the logits before anything else is done with them. The penalty itself is the hook's affair. */
void _ZN7chatglm20BaseModelForCausalLM27sampling_repetition_penaltyEPfS1_RKSt6vectorIiSaIiEEf(
    float *first, float *last, const void *ids, float penalty) {
    (void)ids;
    (void)penalty;
    if (hook)
        hook(first, (size_t)(last - first));
}
