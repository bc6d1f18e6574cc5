/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel images of one kind, chosen at compile time.  Input: 8 bytes of
 * circumstances (memory, modules, command line, reserved ranges), the image.
 */
#include <string.h>

#include "../loader/plan_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
kernel_magic(uint8_t *img, size_t len)
{
#if defined(FUZZ_BZIMAGE)
	if (len >= 0x206)
		memcpy(img + 0x202, "HdrS", 4);
#elif defined(FUZZ_ELF)
	if (len >= 4)
		memcpy(img, "\177ELF", 4);
#elif defined(FUZZ_MULTIBOOT)
	/* Magic and a right checksum over whatever flags there are. */
	if (len >= 64 && memcmp(img, "\177ELF", 4) != 0) {
		plan_put32(img, 0x1badb002);
		plan_put32(img + 8, -(0x1badb002 + plan_get32(img + 4)));
	}
#endif
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint64_t size[8] = { 4096, 1 << 20, 8 << 20, 64 << 20,
		512 << 20, 2ul << 30, 3ul << 30, 0xa0000 };
	static char append[4096];
	struct loader_range res[3] = { { 0xf0000, 0x10000, LOADER_MEM_RESERVED },
		{ 0, 0, LOADER_MEM_ACPI }, { 0, 0, LOADER_MEM_NVS } };
	struct plan_input in = { .name = "k", .append = append,
		.reserved = res };
	struct plan p;
	uint8_t *img;

	if (len < 9)
		return 0;
	in.low = size[data[0] & 7];
	in.high = (data[0] & 8) != 0 ? (uint64_t)data[1] << 24 : 0;
	in.nmodule = data[2] % 4;
	for (unsigned i = 0; i < in.nmodule; i++) {
		in.module[i].len = (uint64_t)data[3] << (data[4 + i] & 31);
		in.module[i].name = "m";
		in.module[i].args = (data[2] & 0x80) != 0 ? "a b" : NULL;
	}
	in.nreserved = data[7] % 4;
	res[1].gpa = (uint64_t)data[5] << 18;
	res[1].len = 1 + ((uint64_t)data[6] << 12);
	res[2].gpa = (uint64_t)data[6] << 20;
	res[2].len = 0x1000;
	memset(append, 'x', sizeof(append) - 1);
	append[data[5] * 16] = '\0';
	in.rsdp = 0xf2400;

	in.len = len - 8;
	img = malloc(in.len);
	if (img == NULL)
		return 0;
	memcpy(img, data + 8, in.len);
	kernel_magic(img, in.len);
	in.img = img;
	if (plan_make(&in, &p) == 0)
		plan_check(&in, &p);
	else
		PLAN_CHECK(p.err[0] != '\0');
	plan_fini(&p);
	free(img);
	append[data[5] * 16] = 'x';
	return 0;
}
