/* SPDX-License-Identifier: BSD-2-Clause */
#include "hyve/options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hyve/config.h"

const char options_help[] =
    "usage: hyve [options] --kernel FILE NAME\n"
    "Runs a virtual machine called NAME in this process and terminal.\n"
    "\n"
    "  -c, --cpus N             virtual processors (1)\n"
    "  -m, --memory SIZE        memory: megabytes, or with K, M, G, T (512M)\n"
    "  -e, --engine ENGINE      auto, soft or kvm (auto)\n"
    "      --kernel FILE        Linux bzImage, ELF with PVH, or multiboot\n"
    "      --initrd FILE        initial RAM disk or module; may be repeated\n"
    "      --append STRING      kernel command line\n"
    "  -l, --lpc com1,WHERE     serial port: stdio or null (stdio)\n"
    "  -S, --wired              wire guest memory\n"
    "  -C, --core               guest memory in core dumps\n"
    "  -o, --option KEY=VALUE   set a configuration variable\n"
    "  -k, --config FILE        read variables from a file\n"
    "  -v, --verbose            say more\n"
    "  -h, --help               this text\n"
    "      --version            the version\n"
    "\n"
    "Exit status: 0 reset, 1 powered off, 2 halted, 3 triple fault, 4 error.\n"
    "hyve(1) has the rest.\n";

enum options_id {
	OPT_CPUS, OPT_MEMORY, OPT_ENGINE, OPT_KERNEL, OPT_INITRD, OPT_APPEND,
	OPT_LPC, OPT_WIRED, OPT_CORE, OPT_OPTION, OPT_CONFIG, OPT_VERBOSE,
	OPT_HELP, OPT_VERSION, OPT_IGNORED,
};

static const struct options_def {
	const char *name;
	char letter; /* 0: none */
	bool arg;
	enum options_id id;
} options_defs[] = {
	{ "cpus", 'c', true, OPT_CPUS },
	{ "memory", 'm', true, OPT_MEMORY },
	{ "engine", 'e', true, OPT_ENGINE },
	{ "kernel", 0, true, OPT_KERNEL },
	{ "initrd", 0, true, OPT_INITRD },
	{ "append", 0, true, OPT_APPEND },
	{ "lpc", 'l', true, OPT_LPC },
	{ "wired", 'S', false, OPT_WIRED },
	{ "core", 'C', false, OPT_CORE },
	{ "option", 'o', true, OPT_OPTION },
	{ "config", 'k', true, OPT_CONFIG },
	{ "verbose", 'v', false, OPT_VERBOSE },
	{ "help", 'h', false, OPT_HELP },
	{ "version", 0, false, OPT_VERSION },
	/* bhyve's, for what is always so here: ACPI tables, yield on HLT. */
	{ "acpi", 'A', false, OPT_IGNORED },
	{ "yield-on-hlt", 'H', false, OPT_IGNORED },
};
#define OPTIONS_N BASE_ARRAY_LEN(options_defs)

struct options_state {
	struct config *cfg;
	enum options_action action;
	char *err;
	size_t errlen;
};

/* [cpus=]N[,sockets=N][,cores=N][,threads=N]: the product must be N. */
static int
options_cpus(struct options_state *st, const char *arg)
{
	static const char *const parts[] = { "sockets", "cores", "threads" };
	uint64_t n = 0, product = 1, v;
	bool topology = false;
	char copy[128], *save = NULL, *end;

	if (strlen(arg) >= sizeof(copy))
		goto bad;
	strcpy(copy, arg);
	for (char *s = strtok_r(copy, ",", &save); s != NULL;
	     s = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(s, '=');
		const char *num = eq != NULL ? eq + 1 : s;
		size_t i;

		v = strtoull(num, &end, 10);
		if (*num < '0' || *num > '9' || *end != '\0')
			goto bad;
		if (eq != NULL)
			*eq = '\0';
		if (eq == NULL || strcmp(s, "cpus") == 0) {
			n = v;
			continue;
		}
		for (i = 0; i < BASE_ARRAY_LEN(parts); i++)
			if (strcmp(s, parts[i]) == 0)
				break;
		if (i == BASE_ARRAY_LEN(parts) || v == 0 || v > 65536)
			goto bad;
		product *= v;
		topology = true;
	}
	if (n == 0 && topology)
		n = product;
	if (n == 0 || (topology && product != n))
		goto bad;
	snprintf(copy, sizeof(copy), "%lu", n);
	return config_set(st->cfg, "cpus", copy, st->err, st->errlen);
bad:
	snprintf(st->err, st->errlen, "-c: \"%s\" is no number of processors",
	    arg);
	return -EINVAL;
}

static int
options_lpc(struct options_state *st, const char *arg)
{
	if (strncmp(arg, "com1,", 5) == 0)
		return config_set(st->cfg, "lpc.com1.path", arg + 5, st->err,
		    st->errlen);
	snprintf(st->err, st->errlen,
	    "-l: \"%s\" is not known: com1,stdio or com1,null", arg);
	return -EINVAL;
}

static int
options_apply(struct options_state *st, const struct options_def *def,
    const char *arg)
{
	static const char *const key[] = {
		[OPT_MEMORY] = "memory.size", [OPT_ENGINE] = "engine",
		[OPT_KERNEL] = "boot.kernel", [OPT_INITRD] = "boot.initrd",
		[OPT_APPEND] = "boot.append", [OPT_WIRED] = "memory.wired",
		[OPT_CORE] = "memory.guest_in_core", [OPT_VERBOSE] = "verbose",
	};

	switch (def->id) {
	case OPT_CPUS:
		return options_cpus(st, arg);
	case OPT_LPC:
		return options_lpc(st, arg);
	case OPT_OPTION:
		return config_set_pair(st->cfg, arg, st->err, st->errlen);
	case OPT_CONFIG:
		return config_load(st->cfg, arg, st->err, st->errlen);
	case OPT_HELP:
		st->action = OPTIONS_HELP;
		return 0;
	case OPT_VERSION:
		st->action = OPTIONS_VERSION;
		return 0;
	case OPT_IGNORED:
		return 0;
	default:
		return config_set(st->cfg, key[def->id],
		    arg != NULL ? arg : "true", st->err, st->errlen);
	}
}

static int
options_unknown_long(struct options_state *st, const char *name)
{
	const char *cand[OPTIONS_N], *near;

	for (size_t i = 0; i < OPTIONS_N; i++)
		cand[i] = options_defs[i].name;
	near = config_nearest(name, cand, OPTIONS_N);
	if (near != NULL)
		snprintf(st->err, st->errlen,
		    "unknown option --%s: did you mean --%s?", name, near);
	else
		snprintf(st->err, st->errlen,
		    "unknown option --%s: see hyve --help", name);
	return -EINVAL;
}

/* => how many words were used, or -errno */
static int
options_long(struct options_state *st, const char *word, const char *next)
{
	const char *eq = strchr(word, '=');
	char name[64];
	size_t n = eq != NULL ? (size_t)(eq - word) : strlen(word), i;
	int error;

	snprintf(name, sizeof(name), "%.*s", (int)base_min(n, 63u), word);
	for (i = 0; i < OPTIONS_N; i++)
		if (strcmp(options_defs[i].name, name) == 0)
			break;
	if (i == OPTIONS_N)
		return options_unknown_long(st, name);
	if (!options_defs[i].arg && eq != NULL) {
		snprintf(st->err, st->errlen, "--%s takes no value", name);
		return -EINVAL;
	}
	if (options_defs[i].arg && eq == NULL && next == NULL) {
		snprintf(st->err, st->errlen, "--%s wants a value", name);
		return -EINVAL;
	}
	error = options_apply(st, &options_defs[i],
	    !options_defs[i].arg ? NULL :
		eq != NULL	 ? eq + 1 :
				   next);
	if (error != 0)
		return error;
	return options_defs[i].arg && eq == NULL ? 2 : 1;
}

/* A group of letters, the last of which may take a value. */
static int
options_short(struct options_state *st, const char *word, const char *next)
{
	const struct options_def *def;
	int error;

	for (; *word != '\0'; word++) {
		def = NULL;
		for (size_t i = 0; i < OPTIONS_N; i++)
			if (options_defs[i].letter == *word)
				def = &options_defs[i];
		if (def == NULL) {
			snprintf(st->err, st->errlen,
			    "unknown option -%c: see hyve --help", *word);
			return -EINVAL;
		}
		if (!def->arg) {
			error = options_apply(st, def, NULL);
			if (error != 0)
				return error;
			continue;
		}
		if (word[1] == '\0' && next == NULL) {
			snprintf(st->err, st->errlen, "-%c wants a value",
			    *word);
			return -EINVAL;
		}
		error = options_apply(st, def,
		    word[1] != '\0' ? word + 1 : next);
		return error != 0 ? error : word[1] != '\0' ? 1 : 2;
	}
	return 1;
}

static int
options_name(struct options_state *st, const char *word, bool *seen)
{
	if (*seen) {
		snprintf(st->err, st->errlen,
		    "\"%s\": the machine has a name already", word);
		return -EINVAL;
	}
	*seen = true;
	return config_set(st->cfg, "name", word, st->err, st->errlen);
}

int
options_parse(struct config *cfg, int argc, char **argv,
    enum options_action *actionp, char *err, size_t errlen)
{
	struct options_state st = { cfg, OPTIONS_RUN, err, errlen };
	bool only_names = false, named = false;
	int i = 1, rc;

	while (i < argc && st.action == OPTIONS_RUN) {
		const char *w = argv[i], *next = i + 1 < argc ? argv[i + 1] :
								NULL;

		if (!only_names && strcmp(w, "--") == 0) {
			only_names = true;
			rc = 1;
		} else if (!only_names && w[0] == '-' && w[1] == '-') {
			rc = options_long(&st, w + 2, next);
		} else if (!only_names && w[0] == '-' && w[1] != '\0') {
			rc = options_short(&st, w + 1, next);
		} else {
			rc = options_name(&st, w, &named);
			if (rc == 0)
				rc = 1;
		}
		if (rc < 0)
			return rc;
		i += rc;
	}
	*actionp = st.action;
	return 0;
}
