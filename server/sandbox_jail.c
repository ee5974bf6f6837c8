/* SPDX-License-Identifier: MIT */
/* sandbox_jail.c - locks the door of a decoder child from inside; the only file with libseccomp.
 *
 * Whoever takes over a decoder finds: no file, socket or process to open (the filter kills for asking), one descriptor
 * to speak through, no code to be mapped, memory with an end. Resource limits stand behind the filter, should a kernel
 * have holes in it. Works without privileges, as no_new_privs is set first. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/sandbox_impl.h"

#if COMMA_SANDBOX_LIMITS_MEMORY
/* Bytes of address space this process has; a guess where /proc is not there. */
static size_t address_space(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (f) {
        if (fscanf(f, "%lu", &pages) != 1)
            pages = 0;
        fclose(f);
    }
    return pages > 0 ? pages * (size_t)sysconf(_SC_PAGESIZE) : (size_t)256 << 20;
}
#endif

static bool limit(int resource, size_t value)
{
    const struct rlimit l = { value, value };

    return setrlimit((unsigned)resource, &l) == 0;
}

static bool set_limits(size_t memory_bytes)
{
#if COMMA_SANDBOX_LIMITS_MEMORY
    if (!limit(RLIMIT_AS, address_space() + memory_bytes))
        return false;
#else
    (void)memory_bytes;
#endif
    return limit(RLIMIT_NOFILE, 0) && limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_CORE, 0) && limit(RLIMIT_NPROC, 0);
}

/* System calls a decoder needs, each only with these arguments: argument n, masked, must equal value. */
struct rule {
    int call;
    unsigned n_conditions;
    struct condition {
        unsigned argument;
        uint64_t mask, value;
    } conditions[2];
};

static const struct rule rules[] = {
    { SCMP_SYS(read), 1, { { 0, UINT32_MAX, COMMA_SANDBOX_FD } } },
    { SCMP_SYS(write), 1, { { 0, UINT32_MAX, COMMA_SANDBOX_FD } } },
    { SCMP_SYS(mmap), 2, { { 2, PROT_EXEC, 0 }, { 3, MAP_ANONYMOUS, MAP_ANONYMOUS } } },
    { SCMP_SYS(mprotect), 1, { { 2, PROT_EXEC, 0 } } },
    { SCMP_SYS(setitimer), 1, { { 0, UINT32_MAX, ITIMER_PROF } } },
    { SCMP_SYS(brk), 0, { { 0 } } },
    { SCMP_SYS(munmap), 0, { { 0 } } },
    { SCMP_SYS(mremap), 0, { { 0 } } },
    { SCMP_SYS(madvise), 0, { { 0 } } },
    { SCMP_SYS(rt_sigreturn), 0, { { 0 } } },
    { SCMP_SYS(exit_group), 0, { { 0 } } },
};

static int add_rule(scmp_filter_ctx filter, const struct rule *rule)
{
    struct scmp_arg_cmp compare[2];

    for (unsigned i = 0; i < rule->n_conditions; i++)
        compare[i] = (struct scmp_arg_cmp){ rule->conditions[i].argument, SCMP_CMP_MASKED_EQ, rule->conditions[i].mask,
                                            rule->conditions[i].value };
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, rule->n_conditions, compare);
}

/* Returns 0, or what the kernel or libseccomp said, as an errno. */
static int set_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int result = filter ? 0 : -ENOMEM;

    for (size_t i = 0; result == 0 && i < sizeof(rules) / sizeof(rules[0]); i++)
        result = add_rule(filter, &rules[i]);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return -result;
}

bool comma_sandbox_jail(size_t memory_bytes, struct comma_error *err)
{
    int refused;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "the decoder sandbox cannot give up privileges: %s",
                          strerror(errno));
    if (!set_limits(memory_bytes))
        return comma_fail(err, COMMA_E_UNSUPPORTED, "the decoder sandbox cannot set resource limits: %s",
                          strerror(errno));
    refused = set_filter();
    if (refused != 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "the decoder sandbox cannot set a seccomp filter: %s",
                          strerror(refused));
    return true;
}
