/* Sessions of the runtime, tensors, and what comes out of them. */
#define _GNU_SOURCE
#include "runner.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_ERRORS 3
#define OPTIMIZE_NOTHING 0
#define ARENA_ALLOCATOR 1
#define DEFAULT_MEMORY 0

void *environment(void) {
    static void *made;
    if (!made) {
        check(CALL(CREATE_ENV, (int, const char *, void **))(LOG_ERRORS, "edgedeploy", &made));
        check(CALL(DISABLE_TELEMETRY_EVENTS, (void *))(made));
    }
    return made;
}

static char **names(void *session, int count_slot, int name_slot, size_t *count) {
    void *allocator;
    char **found;
    size_t i;
    check(CALL(GET_ALLOCATOR, (void **))(&allocator));
    check(CALL(count_slot, (void *, size_t *))(session, count));
    found = grown(NULL, *count, sizeof *found);
    for (i = 0; i < *count; i++)
        check(CALL(name_slot, (void *, size_t, void *, char **))(session, i, allocator, &found[i]));
    return found;
}

void load(artifact *a, const char *profile) {
    void *options, *env = environment();
    size_t i;
    check(CALL(CREATE_SESSION_OPTIONS, (void **))(&options));
    check(CALL(SET_INTRA_OP_THREADS, (void *, int))(options, a->threads));
    check(CALL(SET_INTER_OP_THREADS, (void *, int))(options, 1));
    check(CALL(SET_LOG_SEVERITY, (void *, int))(options, LOG_ERRORS));
    if (!a->optimise)
        check(CALL(SET_OPTIMIZATION_LEVEL, (void *, int))(options, OPTIMIZE_NOTHING));
    for (i = 0; i < a->configs; i++)
        check(CALL(ADD_CONFIG_ENTRY, (void *, const char *, const char *))(options, a->keys[i],
                                                                           a->values[i]));
    if (profile)
        check(CALL(ENABLE_PROFILING, (void *, const char *))(options, profile));
    check(CALL(CREATE_SESSION, (void *, const char *, void *, void **))(env, a->path, options,
                                                                        &a->session));
    a->inputs = names(a->session, GET_INPUT_COUNT, GET_INPUT_NAME, &a->input_count);
    a->outputs = names(a->session, GET_OUTPUT_COUNT, GET_OUTPUT_NAME, &a->output_count);
}

static void read_tensor(tensor *t) {
    static void *memory;
    size_t got = 0;
    if (!memory)
        check(CALL(CREATE_CPU_MEMORY_INFO, (int, int, void **))(ARENA_ALLOCATOR, DEFAULT_MEMORY,
                                                                &memory));
    if (posix_memalign(&t->data, 64, t->bytes + 1))
        fail(3, "out of memory");
    while (got < t->bytes) {
        void *to = (char *)t->data + got;
        ssize_t more = pread(job.pack, to, t->bytes - got, t->offset + (off_t)got);
        if (more <= 0)
            fail(2, "the pack ends before the tensor %s", t->name);
        got += (size_t)more;
    }
    check(CALL(CREATE_TENSOR_WITH_DATA, (void *, void *, size_t, const int64_t *, size_t, int,
                                         void **))(memory, t->data, t->bytes, t->dims,
                                                   (size_t)t->rank, t->type, &t->value));
}

void read_sample(sample *s) {
    size_t i;
    for (i = 0; i < s->count; i++)
        read_tensor(&s->tensors[i]);
}

static void release_value(void *value) {
    ((void (*)(void *))api[RELEASE_VALUE])(value);
}

static void forget_sample(sample *s) {
    size_t i;
    for (i = 0; i < s->count; i++) {
        release_value(s->tensors[i].value);
        free(s->tensors[i].data);
    }
}

/* The output that feeds an input of the next sample, NULL when the input carries no state. */
static void *state_of(const artifact *a, const char *input, void **carried) {
    size_t i, j;
    for (i = 0; i < job.state_count; i++)
        for (j = 0; !strcmp(job.states[i].input, input) && j < a->output_count; j++)
            if (!strcmp(job.states[i].output, a->outputs[j]))
                return carried[j];
    return NULL;
}

/* The values of a sample in the order of the session's inputs, to be freed; states come from
   `carried`, the outputs of the sample before, unless it is NULL. */
void **bound(const artifact *a, const sample *s, void **carried) {
    void **values = grown(NULL, a->input_count, sizeof *values);
    size_t i, j;
    for (i = 0; i < a->input_count; i++) {
        if (carried && (values[i] = state_of(a, a->inputs[i], carried)))
            continue;
        for (j = 0; j < s->count && strcmp(s->tensors[j].name, a->inputs[i]); j++)
            ;
        if (j == s->count)
            fail(2, "the artifact has an input %s that the job does not give", a->inputs[i]);
        values[i] = s->tensors[j].value;
    }
    return values;
}

void run(const artifact *a, void **inputs, void **outputs) {
    memset(outputs, 0, a->output_count * sizeof *outputs);
    check(CALL(RUN, (void *, void *, char **, void **, size_t, char **, size_t, void **))(
        a->session, NULL, a->inputs, inputs, a->input_count, a->outputs, a->output_count, outputs));
}

void release_outputs(const artifact *a, void **outputs) {
    size_t i;
    for (i = 0; i < a->output_count; i++)
        if (outputs[i])
            release_value(outputs[i]);
}

static size_t element_bytes(int type) {
    /* ONNXTensorElementDataType: undefined float uint8 int8 uint16 int16 int32 int64 string bool
       float16 double uint32 uint64 complex64 complex128 bfloat16 */
    static const size_t sizes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 8, 16, 2};
    return type >= 0 && (size_t)type < sizeof sizes / sizeof *sizes ? sizes[type] : 0;
}

static void put_output(const char *name, void *value, size_t at) {
    void *info, *data;
    int is_tensor, type;
    size_t rank, count, i;
    int64_t dims[MAX_DIMS];
    check(CALL(IS_TENSOR, (void *, int *))(value, &is_tensor));
    if (!is_tensor)
        fail(3, "the output %s is no tensor", name);
    check(CALL(GET_TYPE_AND_SHAPE, (void *, void **))(value, &info));
    check(CALL(GET_ELEMENT_TYPE, (void *, int *))(info, &type));
    check(CALL(GET_DIMENSIONS_COUNT, (void *, size_t *))(info, &rank));
    if (rank > MAX_DIMS || !element_bytes(type))
        fail(3, "the output %s has a type or rank that this runner cannot write", name);
    check(CALL(GET_DIMENSIONS, (void *, int64_t *, size_t))(info, dims, rank));
    check(CALL(GET_ELEMENT_COUNT, (void *, size_t *))(info, &count));
    ((void (*)(void *))api[RELEASE_TYPE_AND_SHAPE])(info);
    check(CALL(GET_TENSOR_DATA, (void *, void **))(value, &data));
    fprintf(out, "output %zu ", at);
    put_word(name);
    fprintf(out, " %d %zu %zu", type, count * element_bytes(type), rank);
    for (i = 0; i < rank; i++)
        fprintf(out, " %lld", (long long)dims[i]);
    fputc('\n', out);
    if (count) /* an empty tensor may have no data at all */
        fwrite(data, element_bytes(type), count, out);
    fputc('\n', out);
}

void put_outputs(artifact *a) {
    void **found = NULL;
    size_t at, i;
    load(a, NULL);
    for (at = 0; at < job.sample_count; at++) {
        sample *now = &job.samples[at];
        void **before = found, **inputs;
        int64_t start;
        read_sample(now);
        inputs = bound(a, now, now->anew ? NULL : before);
        found = grown(NULL, a->output_count, sizeof *found);
        start = now_ns();
        run(a, inputs, found);
        fprintf(out, "ran %zu %lld\n", at, (long long)(now_ns() - start));
        fprintf(stderr, "answered %zu\n", at + 1);
        for (i = 0; i < a->output_count; i++)
            put_output(a->outputs[i], found[i], at);
        if (before)
            release_outputs(a, before);
        free(before);
        free(inputs);
        forget_sample(now);
    }
}
