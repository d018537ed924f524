/* NVML without a card: what bench/nvml.py calls. Written from NVIDIA's NVML API reference.
 *
 * FAKE_NVML holds words: `cards=N`, `reasons=MASK`, `no-energy`, `no-power`. The card uses 50 W on
 * the clock of the machine, so that energy between two moments is known.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, NOT_SUPPORTED = 3 };
static int card;

static unsigned long number(const char *word, unsigned long usual) {
    const char *all = getenv("FAKE_NVML"), *found = all ? strstr(all, word) : NULL;
    return found ? strtoul(found + strlen(word), NULL, 0) : usual;
}
static int has(const char *word) { return getenv("FAKE_NVML") && strstr(getenv("FAKE_NVML"), word); }

int nvmlInit_v2(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = number("cards=", 1); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned at, void **out) { *out = &card; return at ? 2 : OK; }
int nvmlDeviceGetName(void *of, char *out, unsigned size) {
    return of == &card && snprintf(out, size, "stand-in card") > 0 ? OK : 2;
}
int nvmlDeviceGetClockInfo(void *of, int kind, unsigned *out) {
    *out = 1410;
    return of == &card && kind == 1 ? OK : 2;
}
int nvmlDeviceGetMaxClockInfo(void *of, int kind, unsigned *out) {
    *out = 2520;
    return of == &card && kind == 1 ? OK : 2;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *of, unsigned long long *out) {
    *out = number("reasons=", 1);
    return of == &card ? OK : 2;
}
int nvmlDeviceGetTotalEnergyConsumption(void *of, unsigned long long *out) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    *out = (t.tv_sec * 1000ull + t.tv_nsec / 1000000) * 50;
    return of != &card ? 2 : has("no-energy") ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetPowerUsage(void *of, unsigned *out) {
    *out = 50000;
    return of != &card ? 2 : has("no-power") ? NOT_SUPPORTED : OK;
}
