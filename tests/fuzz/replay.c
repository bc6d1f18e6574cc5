/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main() of a fuzz target in builds without libFuzzer:
 *
 *	TARGET [-n MUTATIONS] FILE|DIRECTORY...
 *
 * runs the target over the files, and over MUTATIONS deterministic damages of
 * each.  So that every test run, with any compiler, covers the corpora.
 */
#include <sys/stat.h>

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REPLAY_MAX (1u << 20)

static unsigned long replay_mutations;
static unsigned replay_files;

static uint32_t
replay_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Copies exactly, so that a sanitizer sees reads past the end. */
static void
replay_run(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len == 0 ? 1 : len);

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void
replay_mutate(uint8_t *data, size_t len, uint64_t seed)
{
	static const uint32_t odd[] = { 0, 1, 0x7f, 0x80, 0xff, 0xfff, 0x1000,
		0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0 };
	unsigned n = 1 + replay_random(&seed) % 4;

	while (n-- > 0) {
		size_t at = replay_random(&seed) % len;
		uint32_t v = odd[replay_random(&seed) % 12];
		size_t w = (size_t)1 << replay_random(&seed) % 3;

		if (replay_random(&seed) % 2 == 0)
			v = replay_random(&seed);
		memcpy(data + at, &v, w <= len - at ? w : len - at);
	}
	if (replay_random(&seed) % 8 == 0)
		len = replay_random(&seed) % (len + 1);
	replay_run(data, len);
}

static int
replay_file(const char *path)
{
	static uint8_t orig[REPLAY_MAX], data[REPLAY_MAX];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (f == NULL) {
		perror(path);
		return 1;
	}
	len = fread(orig, 1, sizeof(orig), f);
	fclose(f);
	replay_files++;
	replay_run(orig, len);
	for (unsigned long i = 0; len > 0 && i < replay_mutations; i++) {
		memcpy(data, orig, len);
		replay_mutate(data, len, i * 1000003 + len);
	}
	return 0;
}

static int
replay_path(const char *path)
{
	struct dirent **ent;
	struct stat st;
	char name[4096];
	int n, error = 0;

	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return replay_file(path);
	n = scandir(path, &ent, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (ent[i]->d_name[0] != '.') {
			snprintf(name, sizeof(name), "%s/%s", path,
			    ent[i]->d_name);
			error |= replay_file(name);
		}
		free(ent[i]);
	}
	if (n >= 0)
		free(ent);
	return error;
}

int
main(int argc, char **argv)
{
	int c, error = 0;

	while ((c = getopt(argc, argv, "n:")) != -1) {
		if (c != 'n')
			return 2;
		replay_mutations = strtoul(optarg, NULL, 10);
	}
	for (int i = optind; i < argc; i++)
		error |= replay_path(argv[i]);
	printf("%u files, %lu mutations of each\n", replay_files,
	    replay_mutations);
	return error != 0 || replay_files == 0;
}
