/* SPDX-License-Identifier: MIT */
/* command.h - the subcommands of comma: each is one function in cmd_<name>.c, and all stand in the table of main.c.
 *
 *   argv  [argc], argv[0] is the subcommand's name
 *
 * Each returns the exit status (DESIGN "Command line contract"): 0 done, 1 some inputs failed, 2 usage. Results go to
 * stdout, everything else to stderr. */
#ifndef COMMA_SERVER_COMMAND_H
#define COMMA_SERVER_COMMAND_H

int comma_command_classify(int argc, char **argv);
int comma_command_embed(int argc, char **argv);
int comma_command_tokenize(int argc, char **argv);
int comma_command_convert(int argc, char **argv);
int comma_command_inspect(int argc, char **argv);
int comma_command_bench(int argc, char **argv);
int comma_command_serve(int argc, char **argv);
int comma_command_healthcheck(int argc, char **argv);

#endif
