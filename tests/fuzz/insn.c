/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soft_decode() and soft_recode() on any bytes in any mode, with any registers
 * and memory operand.  Input: mode, 8 bytes of registers, 7 of the operand,
 * the rest is code.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../soft/recode_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define INSN_HEADER 16u

static void
insn_fail(const char *why, const uint8_t *code, size_t len)
{
	fprintf(stderr, "fuzz-insn: %s:", why);
	for (size_t i = 0; i < len && i < 15; i++)
		fprintf(stderr, " %02x", code[i]);
	fputc('\n', stderr);
	abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint32_t modes[] = { SOFT_KEY_L, SOFT_KEY_D, 0 };
	struct soft_recode rc = { .mem_scale = 1 };
	struct soft_insn in;
	uint8_t out[17] = { 0 };
	const char *why;
	int n;

	if (len < INSN_HEADER)
		return 0;
	for (unsigned i = 0; i < 16; i++)
		rc.map[i] = (uint8_t)i;
	/* A permutation, as swaps. */
	for (unsigned i = 0; i < 8; i++) {
		uint8_t x = data[1 + i] & 15, y = data[1 + i] >> 4, t;

		t = rc.map[x];
		rc.map[x] = rc.map[y];
		rc.map[y] = t;
	}
	rc.mem_base = (int8_t)(data[9] % 17) - 1;
	rc.mem_index = (int8_t)(data[10] % 17) - 1;
	rc.mem_scale = (uint8_t)(1u << (data[11] & 3));
	rc.mem_gs = data[11] >> 7;
	memcpy(&rc.mem_disp, data + 12, 4);
	if (data[11] & 0x40)
		rc.mem_disp = (int8_t)data[12];
	out[16] = 0xa5;
	if (soft_decode(data + INSN_HEADER, len - INSN_HEADER,
	    modes[data[0] % 3], &in) != 0)
		return 0;
	why = recode_check_insn(&in);
	if (why != NULL)
		insn_fail(why, data + INSN_HEADER, len - INSN_HEADER);
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
	n = soft_recode(&in, &rc, out);
	why = out[16] != 0xa5 ? "too long" : recode_check(&in, &rc, n, out);
	if (why != NULL)
		insn_fail(why, in.bytes, in.len);
	return 0;
}
