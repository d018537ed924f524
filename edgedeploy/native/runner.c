/*
 * Runs and measures ONNX Runtime artifacts on a device that has no Python.
 *
 *   runner LIBRARY version
 *   runner LIBRARY outputs JOB ARTIFACT
 *   runner LIBRARY load    JOB ARTIFACT cold|warm
 *   runner LIBRARY layers  JOB ARTIFACT RUNS PREFIX
 *   runner LIBRARY windows JOB
 *   runner - verify BUNDLE KEY...                 see release.c
 *   runner - admit FOLDER TARGET TRUST MEMORY APPLICATION DOWNGRADE    see admit.c
 *
 * LIBRARY is the libonnxruntime.so that lies beside it; it is loaded at run time, so that one
 * runner serves every version. The job is lines of words, made by edgedeploy/bench/native.py, which
 * also reads what comes out: words are separated by one space, and a byte that is no letter, digit
 * or one of -_./: is written %XX. Times are nanoseconds of CLOCK_MONOTONIC_RAW, sizes bytes.
 *
 *   edgedeploy-runner 1                           first line
 *   artifact PATH THREADS OPTIMISE                numbered from 0; OPTIMISE 0 turns it off
 *   config KEY VALUE                              session entry of the last artifact
 *   file PATH                                     what is dropped from the page cache before "cold"
 *   pack PATH                                     file that holds the input tensors
 *   sample ANEW                                   the tensors that follow are one sample's; with 0
 *                                                 its states are the outputs of the one before
 *   tensor NAME TYPE OFFSET BYTES RANK DIM...     TYPE is ONNXTensorElementDataType
 *   state INPUT OUTPUT                            for "outputs" and "windows"
 *   cpus CPU...                                   everything is bound to these
 *   held                                          end when standard input does
 *   watch PATH                                    read before and after the windows, as evidence
 *   plan WARMUP_MAX WINDOW MIN COUNT REPETITIONS MAX
 *   order ARTIFACT...                             one repetition; it runs once more backwards
 *
 * What is measured, and when a run ends, is what bench/loop.py measures: see there. Results and
 * failures go to standard output, progress and what libraries print to standard error.
 * Exit status: 0 done, 2 the job cannot be obeyed, 3 the runtime failed, 6 the disk failed, 7 a
 * release is refused.
 */
#define _GNU_SOURCE
#include "release.h"
#include "runner.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const function *api;
FILE *out;

static const api_base *base;
static const char *phase = "job";

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

void put_word(const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-_./:", c))
            fputc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
}

/* Tell the host what failed and end; nothing is torn down: the process is over. */
void fail(int code, const char *format, ...) {
    char text[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(out, "failed %s ", phase);
    put_word(text);
    fputc('\n', out);
    fflush(out);
    _exit(code);
}

static void done(void) {
    fputs("end\n", out);
    if (fflush(out) != 0 || ferror(out))
        _exit(3);
    _exit(0);
}

void check(status s) {
    if (s)
        fail(3, "%s", ((const char *(*)(void *))api[GET_ERROR_MESSAGE])(s));
}

void *grown(void *list, size_t count, size_t size) {
    void *more = realloc(list, (count + 1) * size);
    if (!more)
        fail(3, "out of memory");
    return more;
}

static artifact *chosen(const char *text) {
    char word[24], *rest = word;
    snprintf(word, sizeof word, "%s", text);
    return &job.artifacts[number(&rest, (int64_t)job.artifact_count - 1)];
}

static void open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const api_base *(*get_base)(void);
    if (!library)
        fail(3, "%s", dlerror());
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    if (!get_base)
        fail(3, "%s is no ONNX Runtime", path);
    base = get_base();
    api = base->get_api(INTERFACE_VERSION);
    if (!api)
        fail(3, "ONNX Runtime %s is too old for this runner", base->get_version());
}

int main(int count, char **words) {
    const char *verb = count > 2 ? words[2] : "";
    int version = !strcmp(verb, "version") && count == 3;
    /* Only results may reach standard output: what a library prints goes to standard error. */
    out = fdopen(dup(1), "w");
    if (!out || dup2(2, 1) < 0)
        return 3;
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    if (!version && count < 4)
        fail(2, "usage: runner LIBRARY version | outputs | load | layers | windows ...");
    phase = verb;
    if (!strcmp(verb, "verify") && count > 4) {
        put_release(words[3], words + 4, count - 4);
        done();
    }
    if (!strcmp(verb, "admit") && count == 9) {
        put_admission(words + 3);
        done();
    }
    if (!version)
        read_job(words[3]);
    open_library(words[1]);
    fprintf(out, version ? "loads %s\n" : "version %s\n", base->get_version());
    if (version) {
        fflush(out);
        _exit(0);
    }
    if (!strcmp(verb, "outputs") && count == 5)
        put_outputs(chosen(words[4]));
    else if (!strcmp(verb, "load") && count == 6)
        put_loading(chosen(words[4]), !strcmp(words[5], "cold"));
    else if (!strcmp(verb, "layers") && count == 7)
        put_layers(chosen(words[4]), strtoll(words[5], NULL, 10), words[6]);
    else if (!strcmp(verb, "windows") && count == 4)
        put_windows();
    else
        fail(2, "`%s` with %d words is nothing that this runner does", verb, count);
    done();
    return 0;
}
