/* Measures loading, memory and single layers; the process is a fresh one each time. */
#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_RUNS_NS 1000000000LL
#define COLD_RESIDENT 0.02

/* Which part of a file's pages lies in the page cache; negative when that is not to be known. */
static double resident(int handle) {
    struct stat state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages, i, found = 0;
    unsigned char *flags;
    void *address;
    double part = -1;
    if (fstat(handle, &state) || !state.st_size)
        return 0;
    pages = ((size_t)state.st_size + page - 1) / page;
    if (!(flags = malloc(pages)))
        return -1;
    address = mmap(NULL, (size_t)state.st_size, PROT_READ, MAP_SHARED, handle, 0);
    if (address != MAP_FAILED && !mincore(address, (size_t)state.st_size, flags)) {
        for (i = 0; i < pages; i++)
            found += flags[i] & 1;
        part = (double)found / (double)pages;
    }
    if (address != MAP_FAILED)
        munmap(address, (size_t)state.st_size);
    free(flags);
    return part;
}

/* Drop an artifact's files from the page cache; return why that did not work, NULL if it did. */
static const char *drop_page_cache(const artifact *a) {
    static char why[256];
    size_t i;
    for (i = 0; i < a->file_count; i++) {
        int handle = open(a->files[i], O_RDONLY | O_CLOEXEC), trouble;
        double part = 0;
        if (handle < 0 || fsync(handle)) { /* dirty pages are not dropped */
            snprintf(why, sizeof why, "%s", strerror(errno));
            return why;
        }
        trouble = posix_fadvise(handle, 0, 0, POSIX_FADV_DONTNEED);
        if (!trouble)
            part = resident(handle);
        close(handle);
        if (trouble)
            snprintf(why, sizeof why, "%s", strerror(trouble));
        else if (part < 0)
            snprintf(why, sizeof why, "mincore is not available to check it");
        else if (part > COLD_RESIDENT)
            snprintf(why, sizeof why, "%.0f %% of the file stayed in the page cache", 100 * part);
        else
            continue;
        return why;
    }
    return NULL;
}

static int64_t memory_bytes(const char *field) {
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    int64_t found = -1;
    size_t length = strlen(field);
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, field, length) && line[length] == ':')
            found = atoll(line + length + 1) * 1024;
    if (file)
        fclose(file);
    return found;
}

static int64_t most_bytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

static int reset_peak(void) {
    int handle = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC), good;
    if (handle < 0)
        return 0;
    good = write(handle, "5", 1) == 1;
    close(handle);
    return good;
}

void put_loading(artifact *a, int cold) {
    const char *why = NULL;
    int exact;
    int64_t peak, baseline, start, loaded, begin, first;
    void **found, **inputs;
    size_t at;
    for (at = 0; at < job.sample_count; at++)
        read_sample(&job.samples[at]);
    environment();
    if (cold)
        why = drop_page_cache(a);
    exact = reset_peak();
    if ((baseline = memory_bytes("VmRSS")) < 0)
        baseline = most_bytes();
    start = now_ns();
    load(a, NULL);
    loaded = now_ns();
    inputs = bound(a, &job.samples[0], NULL);
    found = grown(NULL, a->output_count, sizeof *found);
    begin = now_ns();
    run(a, inputs, found);
    first = now_ns();
    release_outputs(a, found);
    for (at = 1; at < job.sample_count && now_ns() - first < MEMORY_RUNS_NS; at++) {
        inputs = bound(a, &job.samples[at], NULL);
        run(a, inputs, found);
        release_outputs(a, found);
        free(inputs);
    }
    peak = exact ? memory_bytes("VmHWM") : -1;
    fprintf(out, "loaded %lld %lld %d %lld %lld %s ", (long long)(loaded - start),
            (long long)(first - begin), cold && !why, (long long)baseline,
            (long long)(peak < 0 ? most_bytes() : peak), exact ? "VmHWM" : "ru_maxrss");
    put_word(cold && why ? why : "-");
    fputc('\n', out);
}

void put_layers(artifact *a, int64_t runs, const char *prefix) {
    void *allocator, **found;
    char *path;
    int64_t i;
    size_t at;
    load(a, prefix);
    found = grown(NULL, a->output_count, sizeof *found);
    for (at = 0; at < job.sample_count; at++)
        read_sample(&job.samples[at]);
    for (i = 0; i <= runs; i++) { /* one more: the first is warm-up */
        void **inputs = bound(a, &job.samples[(size_t)i % job.sample_count], NULL);
        run(a, inputs, found);
        release_outputs(a, found);
        free(inputs);
    }
    check(CALL(GET_ALLOCATOR, (void **))(&allocator));
    check(CALL(END_PROFILING, (void *, void *, char **))(a->session, allocator, &path));
    fputs("profile ", out);
    put_word(path);
    fputc('\n', out);
}

