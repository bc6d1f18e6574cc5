/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soft_decode() and soft_recode() against Zydis: random instructions of all
 * maps and modes are re-encoded with random registers and a random memory
 * operand, decoded again as 64-bit code, and compared operand by operand.
 *
 *	recode_test [count [seed]]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "recode_check.h"

static uint64_t rng_state;

static uint64_t
rng(void)
{
	uint64_t z = rng_state += 0x9e3779b97f4a7c15ul;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
	z = (z ^ z >> 27) * 0x94d049bb133111ebul;
	return z ^ z >> 31;
}

static const uint32_t modes[] = { SOFT_KEY_L, SOFT_KEY_D, 0 };

/* Bytes that look like an instruction: prefixes, an escape, noise. */
static void
gen(uint8_t b[15])
{
	static const uint8_t prefix[] = { 0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e,
		0x36, 0x3e, 0x26, 0x64, 0x65 };
	unsigned n = 0, i;

	for (i = 0; i < 15; i += 1)
		b[i] = (uint8_t)rng();
	while (rng() % 3 == 0 && n < 4)
		b[n++] = prefix[rng() % (rng() % 4 ? 4 : sizeof(prefix))];
	switch (rng() % 8) {
	case 0:
		b[n++] = 0x40 | (rng() & 15);
		break;
	case 1:
		b[n++] = 0xc5;
		return;
	case 2:
		b[n++] = 0xc4;
		b[n] = (b[n] & 0xe0) | (1 + rng() % 3);
		if (rng() % 2)
			b[n] |= 0xe0;
		return;
	default:
		break;
	}
	switch (rng() % 6) {
	case 0:
	case 1:
		b[n++] = 0x0f;
		break;
	case 2:
		b[n++] = 0x0f;
		b[n++] = 0x38;
		break;
	case 3:
		b[n++] = 0x0f;
		b[n++] = 0x3a;
		break;
	default:
		break;
	}
}

static void
choose(const struct soft_insn *in, struct soft_recode *rc)
{
	uint8_t pool[16];
	unsigned n = 0, i, j;
	uint16_t fixed = rng() % 16 ? in->gpr_fixed : 0;

	for (i = 0; i < 16; i++) {
		rc->map[i] = (uint8_t)i;
		if (!(fixed & 1u << i))
			pool[n++] = (uint8_t)i;
	}
	if (rng() % 4 != 0) {
		for (i = n; i > 1; i--) {
			uint8_t t = pool[i - 1];

			j = rng() % i;
			pool[i - 1] = pool[j];
			pool[j] = t;
		}
	}
	for (i = 0, n = 0; i < 16; i++)
		if (!(fixed & 1u << i))
			rc->map[i] = pool[n++];
	rc->mem_base = (int8_t)(rng() % 17) - 1;
	rc->mem_index = (int8_t)(rng() % 3 ? -1 : (int)(rng() % 16));
	rc->mem_scale = (uint8_t)(1u << rng() % 4);
	rc->mem_disp = rng() % 3 == 0 ? 0 : rng() % 2 ? (int8_t)rng() :
	    (int32_t)rng();
	rc->mem_gs = rng() % 4 == 0;
}

static void
dump(const char *what, const uint8_t *b, unsigned n, ZydisMachineMode mode)
{
	ZydisDisassembledInstruction d;

	fprintf(stderr, "  %-8s", what);
	for (unsigned i = 0; i < n; i++)
		fprintf(stderr, " %02x", b[i]);
	if (ZYAN_SUCCESS(ZydisDisassembleIntel(mode, 0, b, n, &d)))
		fprintf(stderr, "   %s", d.text);
	fputc('\n', stderr);
}

static int
one(uint64_t seed, unsigned long *tried, unsigned long *refused)
{
	struct soft_insn in;
	struct soft_recode rc;
	uint8_t b[15], out[17];
	const char *why;
	uint32_t mode;
	int len;

	rng_state = seed;
	mode = modes[rng() % 4 < 2 ? 0 : 1 + rng() % 2];
	gen(b);
	if (soft_decode(b, sizeof(b), mode, &in) != 0) {
		fprintf(stderr, "seed %" PRIu64 ": 15 bytes not enough\n", seed);
		return 1;
	}
	why = recode_check_insn(&in);
	if (why != NULL) {
		fprintf(stderr, "SEED=%" PRIu64 ": %s\n", seed, why);
		dump("guest", b, sizeof(b), in.zi.machine_mode);
		return 1;
	}
	switch (in.cls) {
	case SOFT_C_NATIVE:
	case SOFT_C_FPUMEM:
	case SOFT_C_GATHER:
		break;
	default:
		return 0;
	}
	if (in.zi.mnemonic == ZYDIS_MNEMONIC_BOUND)
		return 0;
	choose(&in, &rc);
	++*tried;
	out[16] = 0xa5;
	len = soft_recode(&in, &rc, out);
	why = out[16] != 0xa5 ? "too long" : recode_check(&in, &rc, len, out);
	if (len == -ENOTSUP && why == NULL)
		++*refused;
	if (why == NULL)
		return 0;
	fprintf(stderr, "SEED=%" PRIu64 ": %s (%d)\n", seed, why, len);
	dump("guest", in.bytes, in.len, in.zi.machine_mode);
	if (len > 0)
		dump("host", out, (unsigned)len, ZYDIS_MACHINE_MODE_LONG_64);
	fprintf(stderr, "  map     ");
	for (unsigned i = 0; i < 16; i++)
		fprintf(stderr, " %u", rc.map[i]);
	fprintf(stderr, "  mem %d+%d*%d%+d gs %d\n", rc.mem_base, rc.mem_index,
	    rc.mem_scale, rc.mem_disp, rc.mem_gs);
	return 1;
}

int
main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000000;
	uint64_t seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	unsigned long tried = 0, refused = 0, bad = 0;
	const char *s = getenv("SEED");

	if (s != NULL) {
		seed = strtoul(s, NULL, 0);
		count = 1;
	}
	for (uint64_t i = 0; tried < count && (s == NULL || i == 0); i++) {
		bad += (unsigned long)one(seed + i, &tried, &refused);
		if (bad >= 20)
			break;
	}
	printf("%lu re-encoded, %lu of them refused with reason, %lu wrong\n",
	    tried, refused, bad);
	return bad != 0;
}
