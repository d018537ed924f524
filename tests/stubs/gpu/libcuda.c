/* A driver that has no GPU: what bench/cuda.py calls of the CUDA driver API, on host memory.
 *
 * Written from NVIDIA's CUDA Driver API reference; stricter than a driver, so that tests see what a
 * real one may let pass: copies that are called asynchronous need page-locked memory, every range
 * must lie inside one allocation, nothing may be used after it was given back, or given back twice.
 * Work on a stream is done when the stream is waited for, and not before: who does not wait sees
 * old data. Addresses "on the GPU" are no addresses of the host: fake_resolve() translates them.
 *
 * FAKE_CUDA: `no-gpu` lets cuInit fail as a machine without a GPU does; a number limits the memory.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, UNINITIALISED = 3, NO_GPU = 100, NO_CONTEXT = 201,
       HANDLE = 400, NOT_READY = 600, CONTEXT_ACTIVE = 708, LAUNCH_FAILED = 719 };

#define MOST 4096
#define TAG ((uint64_t)1 << 62)

enum { DEVICE, HOST, STREAM, EVENT, KINDS };
typedef struct { void *at; size_t size; int done; double ms; } thing;
static thing things[KINDS][MOST];
static size_t counts[KINDS];
static size_t taken;
static int initialised, flags_set, retained, current;

typedef int (*work)(int);
typedef struct { void *stream; int what; void *to, *from; size_t size; work call; int id; } item;
enum { COPY, RECORD, LAUNCH };
static item queue[MOST];
static int queued;

static thing *find(int kind, const void *at, size_t size) {
    for (size_t i = 0; i < counts[kind]; i++) {
        thing *t = &things[kind][i];
        char *from = t->at;
        if (from && (char *)at >= from && (char *)at + size <= from + t->size) return t;
    }
    return NULL;
}

static thing *exact(int kind, const void *at) {
    thing *found = at ? find(kind, at, 0) : NULL;
    return found && found->at == at ? found : NULL;
}

static int make(int kind, size_t size, void **out) {
    if (!current) return NO_CONTEXT;
    if (!out || !size || counts[kind] == MOST) return INVALID;
    thing *t = &things[kind][counts[kind]++];
    memset(t, 0, sizeof *t);
    t->at = malloc(size);
    t->size = size;
    memset(t->at, 0xA5, size);
    *out = t->at;
    return OK;
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int flush(const void *stream) {
    int status = OK, kept = 0, count = queued;
    static item todo[MOST];
    memcpy(todo, queue, sizeof(item) * count);
    queued = 0;
    for (int i = 0; i < count; i++) {
        item *it = &todo[i];
        if (stream && it->stream != stream) { queue[kept++] = *it; continue; }
        if (it->what == COPY) memcpy(it->to, it->from, it->size);
        if (it->what == RECORD) { thing *e = exact(EVENT, it->to); if (e) { e->done = 1; e->ms = now_ms(); } }
        if (it->what == LAUNCH && it->call(it->id) != 0) status = LAUNCH_FAILED;
    }
    queued = kept;
    return status;
}

static int drop(int kind, void *at) {
    thing *t = exact(kind, at);
    if (!t) return kind == STREAM || kind == EVENT ? HANDLE : INVALID;
    int status = flush(NULL);
    free(t->at);
    t->at = NULL;
    return status;
}

static int push(item it) {
    if (!exact(STREAM, it.stream)) return HANDLE;
    if (queued == MOST) return INVALID;
    queue[queued++] = it;
    return OK;
}

int cuInit(unsigned flags) {
    const char *how = getenv("FAKE_CUDA");
    if (how && !strcmp(how, "no-gpu")) return NO_GPU;
    initialised = flags == 0;
    return flags ? INVALID : OK;
}
int cuGetErrorName(int status, const char **out) {
    *out = status == INVALID ? "CUDA_ERROR_INVALID_VALUE" : status == NO_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
         : status == NO_GPU ? "CUDA_ERROR_NO_DEVICE" : status == HANDLE ? "CUDA_ERROR_INVALID_HANDLE"
         : status == NOT_READY ? "CUDA_ERROR_NOT_READY" : status == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED"
         : NULL;
    return *out ? OK : INVALID;
}
int cuDriverGetVersion(int *out) { *out = 12060; return OK; }
int cuDeviceGetCount(int *out) { *out = 1; return initialised ? OK : UNINITIALISED; }
int cuDeviceGet(int *out, int ordinal) { *out = 7; return initialised && ordinal == 0 ? OK : INVALID; }
int cuDeviceGetName(char *out, int size, int device) {
    return device == 7 && snprintf(out, size, "edgedeploy stand-in") > 0 ? OK : INVALID;
}
int cuDeviceGetAttribute(int *out, int which, int device) {
    *out = which == 75 ? 8 : which == 76 ? 7 : which == 18 ? 1 : 0;
    return device == 7 ? OK : INVALID;
}
int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    if (device != 7 || (flags != 1 && flags != 4)) return INVALID;
    if (retained) return CONTEXT_ACTIVE;
    flags_set = flags;
    return OK;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = flags_set;
    *active = retained > 0;
    return device == 7 ? OK : INVALID;
}
int cuDevicePrimaryCtxRetain(void **out, int device) {
    if (device != 7) return INVALID;
    retained++;
    *out = &retained;
    return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    if (device != 7 || retained == 0) return NO_CONTEXT;
    if (--retained == 0) current = 0;
    return OK;
}
int cuCtxSetCurrent(void *context) { current = context == &retained && retained; return current ? OK : NO_CONTEXT; }
static size_t most(void) {
    const char *how = getenv("FAKE_CUDA");
    size_t found = how ? strtoull(how, NULL, 10) : 0;
    return found ? found : (size_t)1 << 30;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    if (!current) return NO_CONTEXT;
    *total = most();
    *free_bytes = *total - taken;
    return OK;
}
int cuMemAlloc_v2(uint64_t *out, size_t size) {
    void *at;
    if (taken + size > most()) return NO_MEMORY;
    int status = make(DEVICE, size, &at);
    if (status) return status;
    taken += size;
    *out = (uint64_t)(uintptr_t)at | TAG;
    return OK;
}
static void *untagged(uint64_t at) { return at & TAG ? (void *)(uintptr_t)(at & ~TAG) : NULL; }
int cuMemFree_v2(uint64_t address) {
    thing *t = exact(DEVICE, untagged(address));
    if (t) taken -= t->size;
    return drop(DEVICE, untagged(address));
}
int cuMemHostAlloc(void **out, size_t size, unsigned flags) { return flags ? INVALID : make(HOST, size, out); }
int cuMemFreeHost(void *at) { return drop(HOST, at); }
int cuMemcpyHtoDAsync_v2(uint64_t to, void *from, size_t size, void *stream) {
    if (!size || !find(DEVICE, untagged(to), size) || !find(HOST, from, size)) return INVALID;
    return push((item){stream, COPY, untagged(to), from, size, NULL, 0});
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    if (!size || !find(DEVICE, untagged(from), size) || !find(HOST, to, size)) return INVALID;
    return push((item){stream, COPY, to, untagged(from), size, NULL, 0});
}
int cuStreamCreate(void **out, unsigned flags) { return flags > 1 ? INVALID : make(STREAM, 1, out); }
int cuStreamSynchronize(void *stream) { return exact(STREAM, stream) ? flush(stream) : HANDLE; }
int cuStreamDestroy_v2(void *stream) { return drop(STREAM, stream); }
int cuEventCreate(void **out, unsigned flags) { return flags ? INVALID : make(EVENT, 1, out); }
int cuEventRecord(void *event, void *stream) {
    thing *e = exact(EVENT, event);
    if (!e) return HANDLE;
    e->done = 0;
    return push((item){stream, RECORD, event, NULL, 0, NULL, 0});
}
int cuEventSynchronize(void *event) { return exact(EVENT, event) ? flush(NULL) : HANDLE; }
int cuEventElapsedTime(float *out, void *from, void *to) {
    thing *a = exact(EVENT, from), *b = exact(EVENT, to);
    if (!a || !b) return HANDLE;
    if (!a->done || !b->done) return NOT_READY;
    *out = (float)(b->ms - a->ms);
    return OK;
}
int cuEventDestroy_v2(void *event) { return drop(EVENT, event); }

/* For the stand-in for TensorRT and for tests. */
void *fake_resolve(uint64_t address, size_t size) {
    void *at = untagged(address);
    return at && find(DEVICE, at, size) ? at : NULL;
}
void *fake_host(void *at, size_t size) { return find(HOST, at, size) ? at : NULL; }
int fake_launch(void *stream, work call, int id) { return push((item){stream, LAUNCH, NULL, NULL, 0, call, id}); }
int fake_live(int kind) {
    int found = 0;
    for (size_t i = 0; i < counts[kind]; i++) found += things[kind][i].at != NULL;
    return found;
}
int fake_retained(void) { return retained; }
int fake_flags(void) { return flags_set; }
