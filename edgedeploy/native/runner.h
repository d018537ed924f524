/* What the files of the runner share; runner.c says what it is. */
#ifndef EDGEDEPLOY_RUNNER_H
#define EDGEDEPLOY_RUNNER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * The runtime's C interface. OrtApi is a table of functions that is only ever appended to: "All
 * members of OrtApi ... cannot be removed or reordered" (onnxruntime_c_api.h, and static_asserts in
 * onnxruntime_c_api.cc). So a function is known by its position. These were counted in the header
 * of 1.21.0 and tried against 1.19.2, the oldest whose wheel has the library, and 1.32.0. All
 * are of version 3 of the interface or older.
 */
enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    DISABLE_TELEMETRY_EVENTS = 6,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    ENABLE_PROFILING = 14,
    SET_LOG_SEVERITY = 22,
    SET_OPTIMIZATION_LEVEL = 23,
    SET_INTRA_OP_THREADS = 24,
    SET_INTER_OP_THREADS = 25,
    GET_INPUT_COUNT = 30,
    GET_OUTPUT_COUNT = 31,
    GET_INPUT_NAME = 36,
    GET_OUTPUT_NAME = 37,
    CREATE_TENSOR_WITH_DATA = 49,
    IS_TENSOR = 50,
    GET_TENSOR_DATA = 51,
    GET_ELEMENT_TYPE = 60,
    GET_DIMENSIONS_COUNT = 61,
    GET_DIMENSIONS = 62,
    GET_ELEMENT_COUNT = 64,
    GET_TYPE_AND_SHAPE = 65,
    CREATE_CPU_MEMORY_INFO = 69,
    GET_ALLOCATOR = 78,
    RELEASE_VALUE = 96,
    RELEASE_TYPE_AND_SHAPE = 99,
    END_PROFILING = 110,
    ADD_CONFIG_ENTRY = 130
};

#define INTERFACE_VERSION 17

typedef void (*function)(void);
typedef void *status;
typedef struct {
    const function *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} api_base;

extern const function *api;

/* A function of the table, cast to its type: CALL(RUN, (void *, int))(session, 0). */
#define CALL(slot, types) ((status(*) types)api[slot])

#define MAX_ARTIFACTS 64
#define MAX_DIMS 32

typedef struct {
    char *name;
    int type, rank;
    int64_t dims[MAX_DIMS];
    int64_t offset;
    size_t bytes;
    void *data;
    void *value;
} tensor;

typedef struct {
    tensor *tensors;
    size_t count;
    int anew; /* starts a sequence: states are what the pack gives */
} sample;

typedef struct {
    char *input, *output;
} state_pair;

typedef struct {
    char *path, **keys, **values, **files;
    size_t configs, file_count;
    int threads, optimise;
    void *session;
    char **inputs, **outputs;
    size_t input_count, output_count;
    size_t position, window, count;
    void **made; /* the outputs of the last run, whose states the next one takes */
    int64_t total_ns;
} artifact;

enum { WARMUP_MAX, WINDOW, MIN_TIME, MIN_COUNT, MIN_REPETITIONS, MAX_TIME, PLAN_LENGTH };

typedef struct {
    int *slots;
    size_t count;
} order;

typedef struct {
    artifact artifacts[MAX_ARTIFACTS];
    sample *samples;
    char **watched;
    order *orders;
    state_pair *states;
    size_t artifact_count, sample_count, watched_count, order_count, state_count;
    int64_t plan[PLAN_LENGTH];
    int pack;
} job_data;

extern job_data job;

/* runner.c */
extern FILE *out;
int64_t now_ns(void);
void put_word(const char *text);
void fail(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
void check(status s);
void *grown(void *list, size_t count, size_t size);

/* job.c */
void read_job(const char *path);
int64_t number(char **rest, int64_t limit);

/* session.c */
void *environment(void);
void load(artifact *a, const char *profile);
void read_sample(sample *s);
void **bound(const artifact *a, const sample *s, void **carried);
void run(const artifact *a, void **inputs, void **outputs);
void release_outputs(const artifact *a, void **outputs);
void put_outputs(artifact *a);

/* loading.c */
void put_loading(artifact *a, int cold);
void put_layers(artifact *a, int64_t runs, const char *prefix);

/* windows.c */
void put_windows(void);

#endif
