/* SPDX-License-Identifier: MIT */
/* blas_env.c - see blas_env.h.
 *
 * OpenBLAS chooses its kernels and starts its threads in a constructor, when the process is loaded: setenv() in main()
 * comes too late, and there is no call for the first. So the process sets the variables and executes itself again.
 *
 *   OPENBLAS_NUM_THREADS, OMP_NUM_THREADS = 1: the engine has threads of its own and calls GEMM with one thread on
 *     slices. Threads of the library's own would stand idle at best, and beside ours they halve the speed.
 *   OPENBLAS_CORETYPE, where nobody has set it,
 *     = Haswell on AMD Zen: 101-107 GFLOP/s a core instead of 91-98 (PERFORMANCE "GEMM"), since the AVX-512 kernels it
 *       would choose gain nothing there in f32;
 *     = SkylakeX or Haswell on a processor newer than the library, which then takes the kernels of 2004: 0.3.21 on an
 *       Emerald Rapids runs four times slower with its own choice, Prescott. */
#include "server/blas_env.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/base/cpu.h"
#include "engine/comma.h"

#define GUARD "COMMA_BLAS_ENV_APPLIED" /* so that it happens once, whatever happens */

/* Sets name to value; true if that changed something. */
static bool change(const char *name, const char *value)
{
    const char *old = getenv(name);

    return (!old || strcmp(old, value) != 0) && setenv(name, value, 1) == 0;
}

/* Whether OpenBLAS runs kernels without AVX2, the ones it takes where it does not know a processor among them. */
static bool has_old_kernels(void)
{
    static const char *const old[] = { "Katmai",  "Coppermine", "Northwood",   "Prescott",  "Banias",      "Core2",
                                       "Penryn",  "Dunnington", "Nehalem",     "Atom",      "Sandybridge", "Athlon",
                                       "Opteron", "Barcelona",  "Bobcat",      "Bulldozer", "Piledriver",  "Steamroller",
                                       "Nano",    "Excavator",  "Opteron_SSE3" };
    const char *core = comma_openblas_core();

    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
        if (strcasecmp(core, old[i]) == 0)
            return true;
    return false;
}

/* The kernels to ask for, NULL to leave the choice to the library. */
static const char *better_core(uint32_t cpu)
{
    /* The Haswell kernels need AVX2, which a virtual machine may hide on any processor. */
    if ((cpu & COMMA_CPU_ZEN) && (cpu & COMMA_CPU_AVX2))
        return "Haswell";
    if (!(cpu & COMMA_CPU_AVX2) || !has_old_kernels())
        return NULL;
    return cpu & COMMA_CPU_AVX512 ? "SkylakeX" : "Haswell";
}

static bool set_variables(void)
{
    const char *core = better_core(comma_cpu_features());
    bool changed = change("OPENBLAS_NUM_THREADS", "1");

    changed |= change("OMP_NUM_THREADS", "1");
    if (core && !getenv("OPENBLAS_CORETYPE"))
        changed |= change("OPENBLAS_CORETYPE", core);
    return changed;
}

void comma_blas_env_apply(char *const *argv)
{
    if (getenv(GUARD)) {
        unsetenv(GUARD);
        /* The kernel named the process after the file executed, "exe": ps and top shall show its own name. */
        prctl(PR_SET_NAME, program_invocation_short_name, 0, 0, 0);
        return;
    }
    if (!set_variables() || setenv(GUARD, "1", 1) != 0)
        return;
    execv("/proc/self/exe", argv); /* argv[0] stays as it was */
    unsetenv(GUARD);
}
