/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hyve: runs one virtual machine.  Here: from the command line to a machine
 * that is ready to run, and the way back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "hyve/config.h"
#include "hyve/console.h"
#include "hyve/options.h"
#include "hyve/pressure.h"
#include "hyve/run.h"
#include "hyve/serial.h"
#include "loader/loader.h"
#include "vmm/vmm.h"

static bool main_raw; /* the terminal is raw: lines end with CR LF */

static void
main_log(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "hyve: %s%s\n", line, main_raw ? "\r" : "");
}

static int
main_fail(const char *line)
{
	fprintf(stderr, "hyve: %s\n", line);
	return VMM_SUSPEND_ERROR;
}

static int
main_load(struct run *r)
{
	struct loader_module mod[CONFIG_MAXVALUES];
	struct loader_range reserved[LOADER_MAXRESERVED];
	struct loader_config lc = {
		.kernel = config_get(r->cfg, "boot.kernel"),
		.append = config_get(r->cfg, "boot.append"),
		.module = mod,
		.reserved = reserved,
	};
	struct vmm_firmware fw = { .size = sizeof(fw) };
	struct vmm_vcpu *bsp;
	const char *path;
	char err[512];
	int error;

	while ((path = config_get_nth(r->cfg, "boot.initrd", lc.nmodule)) !=
	    NULL)
		mod[lc.nmodule++] = (struct loader_module){ .path = path };
	error = vmm_setup_firmware(r->vmm, &fw);
	if (error != 0)
		return main_fail(vmm_errmsg(r->vmm));
	lc.rsdp = fw.rsdp;
	for (; lc.nreserved < fw.nrange; lc.nreserved++)
		reserved[lc.nreserved] = (struct loader_range){
			.gpa = fw.range[lc.nreserved].gpa,
			.len = fw.range[lc.nreserved].len,
			.type = fw.range[lc.nreserved].type,
		};
	error = vmm_vcpu_open(r->vmm, 0, &bsp);
	if (error != 0)
		return main_fail(vmm_errmsg(r->vmm));
	error = loader_load(r->vmm, bsp, &lc, err, sizeof(err));
	vmm_vcpu_close(bsp);
	return error != 0 ? main_fail(err) : 0;
}

static int
main_prepare(struct run *r)
{
	unsigned flags = 0;
	int error;

	if (config_get_bool(r->cfg, "memory.wired"))
		flags |= VMM_MEM_F_WIRED;
	if (config_get_bool(r->cfg, "memory.guest_in_core"))
		flags |= VMM_MEM_F_INCORE;
	error = vmm_setup_memory(r->vmm,
	    config_get_number(r->cfg, "memory.size"), flags);
	if (error == 0 && config_get_number(r->cfg, "memory.limit") != 0)
		error = vmm_set_limit(r->vmm,
		    config_get_number(r->cfg, "memory.limit"));
	if (error != 0)
		return main_fail(vmm_errmsg(r->vmm));
	error = serial_create(r->vmm, r->console, 0x3f8, 4, &r->com1);
	if (error != 0)
		return main_fail(strerror(-error));
	return main_load(r);
}

static bool
main_pressure(const struct config *cfg)
{
	return strcmp(config_get(cfg, "memory.pressure"), "off") != 0;
}

/* A host that cannot be watched is no reason not to run. */
static void
main_watch(struct run *r, struct pressure **pp)
{
	const char *path = config_get(r->cfg, "memory.pressure");
	char err[256];

	*pp = NULL;
	if (main_pressure(r->cfg) && pressure_start(r->vmm, strcmp(path, "on") ==
	    0 ? NULL : path, pp, err, sizeof(err)) != 0)
		log_warn("%s", err);
}

/* Swap is there from the start if it may be wanted: a limit can come later. */
static int
main_swap(const struct config *cfg)
{
	uint64_t bytes = config_get_number(cfg, "memory.swap");
	const char *dir = config_get(cfg, "memory.swapdir");
	int error;

	if (bytes == 0 && (config_get_number(cfg, "memory.limit") != 0 ||
	    main_pressure(cfg)))
		bytes = config_get_number(cfg, "memory.size");
	if (bytes == 0)
		return 0;
	if (dir == NULL)
		dir = getenv("TMPDIR");
	error = vmm_swap_on(dir != NULL ? dir : "/var/tmp", bytes);
	if (error == 0 && strcmp(config_get(cfg, "memory.compress"), "lz4") == 0)
		error = vmm_compress_on(config_get_number(cfg, "memory.size") / 4);
	return error;
}

static int
main_machine(struct run *r)
{
	const char *name = config_get(r->cfg, "name");
	struct vmm_config vc = {
		.size = sizeof(vc),
		.engine = config_get(r->cfg, "engine"),
		.pmap = config_get(r->cfg, "memory.pmap"),
		.code_cache = config_get_number(r->cfg, "soft.cache"),
		.perf_map = config_get(r->cfg, "soft.perfmap"),
	};
	uint64_t n = config_get_number(r->cfg, "cpus");
	struct pressure *pressure;
	int status;

	vc.ncpu = r->ncpu = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
	if (!config_get_bool(r->cfg, "soft.translate"))
		vc.flags |= VMM_CONFIG_NO_TRANSLATE;
	if (strcmp(config_get(r->cfg, "memory.ad"), "emulated") == 0)
		vc.flags |= VMM_CONFIG_AD_EMULATED;
	if (!config_get_bool(r->cfg, "memory.large"))
		vc.flags |= VMM_CONFIG_NO_LARGE;
	if (main_swap(r->cfg) != 0 || vmm_create(name, &vc, &r->vmm) != 0)
		return main_fail(vmm_errmsg(NULL));
	log_info("%s", vmm_engine_reason(r->vmm));
	status = main_prepare(r);
	if (status == 0) {
		main_raw = console_is_tty(r->console);
		main_watch(r, &pressure);
		status = run_machine(r);
		pressure_stop(pressure);
	}
	if (r->com1 != NULL)
		serial_destroy(r->com1);
	vmm_close(r->vmm);
	return status;
}

/* What can be told from the configuration alone. */
static const char *
main_check(const struct config *cfg)
{
	const char *com1 = config_get(cfg, "lpc.com1.path");
	const char *ad = config_get(cfg, "memory.ad");
	const char *pressure = config_get(cfg, "memory.pressure");
	const char *compress = config_get(cfg, "memory.compress");

	if (config_get(cfg, "name") == NULL)
		return "the machine wants a name: hyve [options] --kernel "
		       "FILE NAME";
	if (config_get(cfg, "boot.kernel") == NULL)
		return "nothing to boot: give --kernel FILE";
	if (strcmp(ad, "hardware") != 0 && strcmp(ad, "emulated") != 0)
		return "memory.ad: hardware or emulated are known";
	if (strcmp(pressure, "on") != 0 && strcmp(pressure, "off") != 0 &&
	    pressure[0] != '/')
		return "memory.pressure: on, off or the path of a pressure file";
	if (strcmp(compress, "off") != 0 && strcmp(compress, "lz4") != 0)
		return "memory.compress: off or lz4";
	if (config_get_number(cfg, "memory.limit") != 0 &&
	    config_get_bool(cfg, "memory.wired"))
		return "memory.limit: all of memory is wired (-S), nothing can "
		       "be paged out";
	if (strcmp(com1, "stdio") != 0 && strcmp(com1, "null") != 0)
		return "lpc.com1.path: stdio or null are known";
	return NULL;
}

static int
main_run(struct config *cfg)
{
	struct run r = { .cfg = cfg };
	const char *bad = main_check(cfg);
	int error, status;

	if (bad != NULL)
		return main_fail(bad);
	r.debug_exit = config_get_bool(cfg, "debugexit");
	run_block_signals();
	error = console_create(
	    strcmp(config_get(cfg, "lpc.com1.path"), "stdio") == 0,
	    &r.console);
	if (error != 0)
		return main_fail(strerror(-error));
	status = main_machine(&r);
	if (r.console != NULL)
		console_destroy(r.console);
	return status;
}

/* What we open must not land on a standard descriptor that was closed. */
static void
main_open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int
main(int argc, char **argv)
{
	struct config *cfg = config_create();
	enum options_action action;
	char err[512];
	int status = 0;

	main_open_standard();
	if (cfg == NULL)
		return main_fail(strerror(ENOMEM));
	if (options_parse(cfg, argc, argv, &action, err, sizeof(err)) != 0) {
		config_destroy(cfg);
		return main_fail(err);
	}
	log_set_sink(main_log, NULL,
	    config_get_bool(cfg, "verbose") ? LOG_LEVEL_DEBUG :
					      LOG_LEVEL_WARN);
	if (action == OPTIONS_HELP)
		fputs(options_help, stdout);
	else if (action == OPTIONS_VERSION)
		printf("hyve %s\n", vmm_version());
	else if (config_get_bool(cfg, "config.dump"))
		config_dump(cfg, stdout);
	else
		status = main_run(cfg);
	config_destroy(cfg);
	return status;
}
