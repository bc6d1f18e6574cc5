/* SPDX-License-Identifier: BSD-2-Clause */
#include "hyve/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmm.h"

enum config_type { CONFIG_TEXT, CONFIG_BOOL, CONFIG_SIZE, CONFIG_UINT };

/* Every variable; hyve(1) documents them in this order. */
static const struct config_def {
	const char *key;
	enum config_type type;
	const char *def; /* NULL: unset */
	bool many;
} config_defs[] = {
	{ "name", CONFIG_TEXT, NULL, false },
	{ "cpus", CONFIG_UINT, "1", false },
	{ "memory.size", CONFIG_SIZE, "512M", false },
	{ "memory.wired", CONFIG_BOOL, "false", false },
	{ "memory.guest_in_core", CONFIG_BOOL, "false", false },
	{ "memory.pmap", CONFIG_TEXT, "ept", false },
	{ "memory.limit", CONFIG_SIZE, NULL, false },
	{ "memory.swap", CONFIG_SIZE, NULL, false },
	{ "memory.swapdir", CONFIG_TEXT, NULL, false },
	{ "memory.compress", CONFIG_TEXT, "off", false },
	{ "memory.pressure", CONFIG_TEXT, "off", false },
	{ "memory.ad", CONFIG_TEXT, "hardware", false },
	{ "memory.large", CONFIG_BOOL, "true", false },
	{ "engine", CONFIG_TEXT, "auto", false },
	{ "soft.translate", CONFIG_BOOL, "true", false },
	{ "soft.cache", CONFIG_SIZE, NULL, false },
	{ "soft.perfmap", CONFIG_TEXT, NULL, false },
	{ "boot.kernel", CONFIG_TEXT, NULL, false },
	{ "boot.initrd", CONFIG_TEXT, NULL, true },
	{ "boot.append", CONFIG_TEXT, NULL, false },
	{ "lpc.com1.path", CONFIG_TEXT, "stdio", false },
	{ "debugexit", CONFIG_BOOL, "false", false },
	{ "poweroff.timeout", CONFIG_UINT, "10", false },
	{ "verbose", CONFIG_BOOL, "false", false },
	{ "config.dump", CONFIG_BOOL, "false", false },
};
#define CONFIG_NDEFS BASE_ARRAY_LEN(config_defs)

struct config {
	struct {
		char *value[CONFIG_MAXVALUES];
		size_t n;
	} var[CONFIG_NDEFS];
};

static size_t
config_find(const char *key)
{
	size_t i = 0;

	while (i < CONFIG_NDEFS && strcmp(config_defs[i].key, key) != 0)
		i++;
	return i;
}

struct config *
config_create(void)
{
	return calloc(1, sizeof(struct config));
}

void
config_destroy(struct config *cfg)
{
	for (size_t i = 0; i < CONFIG_NDEFS; i++)
		for (size_t j = 0; j < cfg->var[i].n; j++)
			free(cfg->var[i].value[j]);
	free(cfg);
}

static int
config_parse_bool(const char *s, bool *bp)
{
	static const char *const yes[] = { "true", "on", "yes", "1" };
	static const char *const no[] = { "false", "off", "no", "0" };

	for (size_t i = 0; i < BASE_ARRAY_LEN(yes); i++) {
		if (strcasecmp(s, yes[i]) == 0 || strcasecmp(s, no[i]) == 0) {
			*bp = strcasecmp(s, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

static int
config_parse_uint(const char *s, uint64_t *up)
{
	char *end;

	if (!isdigit((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	*up = strtoull(s, &end, 0);
	return errno != 0 ? -ERANGE : *end != '\0' ? -EINVAL : 0;
}

/* Changes that turn a into b: insert, remove, replace. */
static unsigned
config_distance(const char *a, const char *b)
{
	unsigned row[64], diag, up;
	size_t n = strlen(b);

	if (n >= BASE_ARRAY_LEN(row))
		return UINT32_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		diag = row[0]++;
		for (size_t j = 1; j <= n; j++) {
			up = row[j];
			row[j] = base_min(base_min(up, row[j - 1]) + 1,
			    diag + (a[i] != b[j - 1]));
			diag = up;
		}
	}
	return row[n];
}

const char *
config_nearest(const char *s, const char *const *cand, size_t n)
{
	unsigned best = (unsigned)strlen(s) / 2 + 1, d;
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		d = config_distance(s, cand[i]);
		if (d < best) {
			best = d;
			found = cand[i];
		}
	}
	return found;
}

static int
config_check(const struct config_def *def, const char *value, char *err,
    size_t errlen)
{
	const char *want = NULL;
	uint64_t u;
	bool b;

	switch (def->type) {
	case CONFIG_BOOL:
		if (config_parse_bool(value, &b) != 0)
			want = "true or false";
		break;
	case CONFIG_SIZE:
		if (vmm_parse_memsize(value, &u) != 0)
			want = "a size like 512M";
		break;
	case CONFIG_UINT:
		if (config_parse_uint(value, &u) != 0)
			want = "a number";
		break;
	case CONFIG_TEXT:
		break;
	}
	if (want == NULL)
		return 0;
	snprintf(err, errlen, "%s: \"%s\" is not %s", def->key, value, want);
	return -EINVAL;
}

static int
config_unknown(const char *key, char *err, size_t errlen)
{
	const char *cand[CONFIG_NDEFS], *near;

	for (size_t i = 0; i < CONFIG_NDEFS; i++)
		cand[i] = config_defs[i].key;
	near = config_nearest(key, cand, CONFIG_NDEFS);
	if (near != NULL)
		snprintf(err, errlen,
		    "unknown variable \"%s\": did you mean \"%s\"?", key,
		    near);
	else
		snprintf(err, errlen, "unknown variable \"%s\"", key);
	return -EINVAL;
}

int
config_set(struct config *cfg, const char *key, const char *value, char *err,
    size_t errlen)
{
	size_t i = config_find(key);
	char *copy;
	int error;

	if (i == CONFIG_NDEFS)
		return config_unknown(key, err, errlen);
	error = config_check(&config_defs[i], value, err, errlen);
	if (error != 0)
		return error;
	if (config_defs[i].many && cfg->var[i].n == CONFIG_MAXVALUES) {
		snprintf(err, errlen, "%s: given more than %d times", key,
		    CONFIG_MAXVALUES);
		return -ENOSPC;
	}
	copy = strdup(value);
	if (copy == NULL) {
		snprintf(err, errlen, "%s: %s", key, strerror(ENOMEM));
		return -ENOMEM;
	}
	if (!config_defs[i].many && cfg->var[i].n == 1) {
		free(cfg->var[i].value[0]); /* the last one wins */
		cfg->var[i].n = 0;
	}
	cfg->var[i].value[cfg->var[i].n++] = copy;
	return 0;
}

int
config_set_pair(struct config *cfg, const char *pair, char *err,
    size_t errlen)
{
	const char *eq = strchr(pair, '=');
	char key[128];

	if (eq == NULL || eq == pair || (size_t)(eq - pair) >= sizeof(key)) {
		snprintf(err, errlen, "\"%s\" is not of the form key=value",
		    pair);
		return -EINVAL;
	}
	memcpy(key, pair, (size_t)(eq - pair));
	key[eq - pair] = '\0';
	return config_set(cfg, key, eq + 1, err, errlen);
}

static int
config_load_line(struct config *cfg, char *line, char *err, size_t errlen)
{
	size_t n;

	while (isspace((unsigned char)*line))
		line++;
	n = strlen(line);
	while (n > 0 && isspace((unsigned char)line[n - 1]))
		line[--n] = '\0';
	if (line[0] == '\0' || line[0] == '#')
		return 0;
	return config_set_pair(cfg, line, err, errlen);
}

int
config_load(struct config *cfg, const char *path, char *err, size_t errlen)
{
	char *line = NULL, why[256];
	size_t cap = 0;
	unsigned no = 0;
	int error = 0;
	ssize_t n;
	FILE *fp;

	fp = fopen(path, "re");
	if (fp == NULL) {
		error = -errno;
		snprintf(err, errlen, "%s: %s", path, strerror(-error));
		return error;
	}
	while (error == 0 && (n = getline(&line, &cap, fp)) >= 0) {
		no++;
		if (strlen(line) != (size_t)n) {
			snprintf(why, sizeof(why), "not a text file");
			error = -EINVAL;
		} else {
			error = config_load_line(cfg, line, why, sizeof(why));
		}
	}
	if (error != 0) {
		snprintf(err, errlen, "%s:%u: %s", path, no, why);
	} else if (ferror(fp)) {
		error = -EIO;
		snprintf(err, errlen, "%s: %s", path, strerror(EIO));
	}
	free(line);
	fclose(fp);
	return error;
}

const char *
config_get(const struct config *cfg, const char *key)
{
	size_t i = config_find(key);

	KASSERT(i < CONFIG_NDEFS, "unknown variable %s", key);
	return cfg->var[i].n != 0 ? cfg->var[i].value[cfg->var[i].n - 1] :
				    config_defs[i].def;
}

bool
config_get_bool(const struct config *cfg, const char *key)
{
	const char *s = config_get(cfg, key);
	bool b = false;

	return s != NULL && config_parse_bool(s, &b) == 0 && b;
}

uint64_t
config_get_number(const struct config *cfg, const char *key)
{
	const char *s = config_get(cfg, key);
	uint64_t u = 0;

	if (s == NULL)
		return 0;
	if (config_defs[config_find(key)].type == CONFIG_SIZE)
		(void)vmm_parse_memsize(s, &u);
	else
		(void)config_parse_uint(s, &u);
	return u;
}

const char *
config_get_nth(const struct config *cfg, const char *key, size_t i)
{
	size_t k = config_find(key);

	KASSERT(k < CONFIG_NDEFS, "unknown variable %s", key);
	return i < cfg->var[k].n ? cfg->var[k].value[i] : NULL;
}

void
config_dump(const struct config *cfg, FILE *fp)
{
	for (size_t i = 0; i < CONFIG_NDEFS; i++) {
		for (size_t j = 0; j < cfg->var[i].n; j++)
			fprintf(fp, "%s=%s\n", config_defs[i].key,
			    cfg->var[i].value[j]);
		if (cfg->var[i].n == 0 && config_defs[i].def != NULL)
			fprintf(fp, "%s=%s\n", config_defs[i].key,
			    config_defs[i].def);
	}
}
