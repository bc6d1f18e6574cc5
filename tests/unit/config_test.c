/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hyve's variables and command line: sizes, values, what is refused and how.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hyve/config.h"
#include "hyve/options.h"
#include "vmm/vmm.h"

static void
sizes(void **state)
{
	static const struct {
		const char *s;
		int rc;
		uint64_t v;
	} t[] = {
		{ "512", 0, 512ul << 20 }, { "0", 0, 0 },
		{ "1048575", 0, 1048575ul << 20 }, { "1048576", 0, 1048576 },
		{ "1073741824", 0, 1ul << 30 }, { "4k", 0, 4096 },
		{ "3G", 0, 3ul << 30 }, { "2t", 0, 2ul << 40 },
		{ "1P", 0, 1ul << 50 }, { "15E", 0, 15ul << 60 },
		{ "16E", -ERANGE, 0 }, { "17179869184G", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 }, { "", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 }, { " 1", -EINVAL, 0 },
		{ "1x", -EINVAL, 0 }, { "1MB", -EINVAL, 0 },
		{ "M", -EINVAL, 0 }, { "1.5G", -EINVAL, 0 },
		{ "0x10M", 0, 16ul << 20 },
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < BASE_ARRAY_LEN(t); i++) {
		v = 0;
		if (vmm_parse_memsize(t[i].s, &v) != t[i].rc || v != t[i].v)
			fail_msg("\"%s\": %lu", t[i].s, v);
	}
}

/* Runs a command line of words; => the error line, "" for none. */
static const char *
parse(struct config *cfg, const char *line, enum options_action *action)
{
	static char err[256], copy[256];
	char *argv[32] = { "hyve" }, *save = NULL;
	int argc = 1, rc;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w != NULL;
	     w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	err[0] = '\0';
	rc = options_parse(cfg, argc, argv, action, err, sizeof(err));
	assert_int_equal(rc == 0, err[0] == '\0');
	return err;
}

static void
good_lines(void **state)
{
	struct config *cfg = config_create();
	enum options_action action;

	(void)state;
	assert_string_equal(parse(cfg, "-c 2 -m 1G -e soft --kernel k --initrd "
	    "a --initrd=b --append x=y -l com1,null -SC -o debugexit=on n",
	    &action), "");
	assert_int_equal(action, OPTIONS_RUN);
	assert_int_equal(config_get_number(cfg, "cpus"), 2);
	assert_int_equal(config_get_number(cfg, "memory.size"), 1 << 30);
	assert_string_equal(config_get(cfg, "engine"), "soft");
	assert_string_equal(config_get(cfg, "boot.kernel"), "k");
	assert_string_equal(config_get_nth(cfg, "boot.initrd", 0), "a");
	assert_string_equal(config_get_nth(cfg, "boot.initrd", 1), "b");
	assert_null(config_get_nth(cfg, "boot.initrd", 2));
	assert_string_equal(config_get(cfg, "boot.append"), "x=y");
	assert_string_equal(config_get(cfg, "lpc.com1.path"), "null");
	assert_true(config_get_bool(cfg, "memory.wired"));
	assert_true(config_get_bool(cfg, "memory.guest_in_core"));
	assert_true(config_get_bool(cfg, "debugexit"));
	assert_string_equal(config_get(cfg, "name"), "n");
	/* The last one wins; joined values; names after --. */
	assert_string_equal(parse(cfg, "-m1G -m256 -c4,sockets=2,cores=2 "
	    "--memory=300M", &action), "");
	assert_int_equal(config_get_number(cfg, "memory.size"), 300u << 20);
	assert_int_equal(config_get_number(cfg, "cpus"), 4);
	assert_string_equal(parse(cfg, "-c cpus=3 -- -n", &action), "");
	assert_string_equal(config_get(cfg, "name"), "-n");
	assert_string_equal(parse(cfg, "--help --nonsense", &action), "");
	assert_int_equal(action, OPTIONS_HELP);
	assert_string_equal(parse(cfg, "--version", &action), "");
	assert_int_equal(action, OPTIONS_VERSION);
	config_destroy(cfg);
}

static void
bad_lines(void **state)
{
	static const struct {
		const char *line, *err;
	} t[] = {
		{ "--kernal k", "unknown option --kernal: did you mean "
				"--kernel?" },
		{ "--memroy 1", "unknown option --memroy: did you mean "
				"--memory?" },
		{ "--zzzzzzzzz", "unknown option --zzzzzzzzz: see hyve "
				 "--help" },
		{ "-z", "unknown option -z: see hyve --help" },
		{ "-Sz", "unknown option -z: see hyve --help" },
		{ "-m", "-m wants a value" },
		{ "--append", "--append wants a value" },
		{ "--wired=yes", "--wired takes no value" },
		{ "-m 1Q", "memory.size: \"1Q\" is not a size like 512M" },
		{ "-c 0", "-c: \"0\" is no number of processors" },
		{ "-c 4,cores=3", "-c: \"4,cores=3\" is no number of "
				  "processors" },
		{ "-c two", "-c: \"two\" is no number of processors" },
		{ "-l com2,stdio", "-l: \"com2,stdio\" is not known: "
				   "com1,stdio or com1,null" },
		{ "-o nokey", "\"nokey\" is not of the form key=value" },
		{ "-o memory.sise=1", "unknown variable \"memory.sise\": did "
				      "you mean \"memory.size\"?" },
		{ "-o memory.wired=maybe", "memory.wired: \"maybe\" is not "
					   "true or false" },
		{ "-o poweroff.timeout=soon", "poweroff.timeout: \"soon\" is "
					      "not a number" },
		{ "a b", "\"b\": the machine has a name already" },
		{ "-k /nonexistent", "/nonexistent: No such file or "
				     "directory" },
	};
	enum options_action action;

	(void)state;
	for (size_t i = 0; i < BASE_ARRAY_LEN(t); i++) {
		struct config *cfg = config_create();

		assert_string_equal(parse(cfg, t[i].line, &action), t[i].err);
		config_destroy(cfg);
	}
}

static void
files(void **state)
{
	char path[] = "/tmp/config_test.XXXXXX", err[256], want[256];
	struct config *cfg = config_create();
	int fd = mkstemp(path);
	FILE *fp = fdopen(fd, "w+");

	(void)state;
	fputs("# a machine\n\n  memory.size=64M  \ncpus=2\nname=f", fp);
	fflush(fp);
	assert_int_equal(config_load(cfg, path, err, sizeof(err)), 0);
	assert_int_equal(config_get_number(cfg, "memory.size"), 64 << 20);
	assert_string_equal(config_get(cfg, "name"), "f");
	fputs("\ncpus\n", fp);
	fflush(fp);
	assert_int_equal(config_load(cfg, path, err, sizeof(err)), -EINVAL);
	snprintf(want, sizeof(want),
	    "%s:6: \"cpus\" is not of the form key=value", path);
	assert_string_equal(err, want);
	rewind(fp);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(fwrite("cpus=1\0\n", 1, 8, fp), 8);
	fflush(fp);
	assert_int_equal(config_load(cfg, path, err, sizeof(err)), -EINVAL);
	fclose(fp);
	unlink(path);
	assert_true(config_load(cfg, "/tmp", err, sizeof(err)) != 0);
	config_destroy(cfg);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(good_lines),
		cmocka_unit_test(bad_lines),
		cmocka_unit_test(files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
