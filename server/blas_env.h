/* SPDX-License-Identifier: MIT */
/* blas_env.h - the environment that GEMM libraries read before main() runs. */
#ifndef COMMA_SERVER_BLAS_ENV_H
#define COMMA_SERVER_BLAS_ENV_H

/* Sees to it that this process was started with the environment that OpenBLAS and OpenMP should find, by starting it
 * once more in place if need be: then this does not return. First thing in main(), before threads, files and output.
 * Where that is not possible it returns, and the process is only slower. */
void comma_blas_env_apply(char *const *argv);

#endif
