/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Initial RAM disks beside a sound kernel: any sizes, any memory, any limits
 * the kernel's header may state.  Input: numbers.
 */
#include <string.h>

#include "../loader/plan_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t
initrd_take(const uint8_t **data, size_t *len, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0 && *len > 0) {
		v = v << 8 | *(*data)++;
		(*len)--;
	}
	return v;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t img[0x800];
	struct loader_range res[LOADER_MAXRESERVED];
	struct plan_input in = { .img = img, .len = sizeof(img), .name = "k",
		.reserved = res };
	struct plan p;

	memset(img, 0, sizeof(img));
	img[0x1f1] = 1;
	plan_put32(img + 0x1f4, 0x400 / 16);
	plan_put16(img + 0x1fe, 0xaa55);
	img[0x201] = 0x66;
	memcpy(img + 0x202, "HdrS", 4);
	plan_put16(img + 0x206, 0x20f);
	img[0x211] = 1;
	img[0x234] = 1;
	plan_put16(img + 0x236, 0x1 | (uint16_t)initrd_take(&data, &len, 1));
	plan_put32(img + 0x22c, (uint32_t)initrd_take(&data, &len, 4));
	plan_put32(img + 0x230, 1u << (initrd_take(&data, &len, 1) & 31));
	plan_put32(img + 0x238, 255);
	plan_put64(img + 0x258, initrd_take(&data, &len, 4));
	plan_put32(img + 0x260, (uint32_t)initrd_take(&data, &len, 4));
	in.low = initrd_take(&data, &len, 3) << VMM_PAGE_SHIFT;
	if (in.low > VMM_LOWMEM_LIMIT)
		in.low = VMM_LOWMEM_LIMIT;
	in.high = initrd_take(&data, &len, 4) << VMM_PAGE_SHIFT;
	in.nmodule = initrd_take(&data, &len, 1) % (LOADER_MAXMODULES + 1);
	for (unsigned i = 0; i < in.nmodule; i++) {
		in.module[i].name = "m";
		in.module[i].len = initrd_take(&data, &len, 5);
	}
	in.nreserved = initrd_take(&data, &len, 1) % (LOADER_MAXRESERVED + 1);
	for (size_t i = 0; i < in.nreserved; i++) {
		res[i].gpa = initrd_take(&data, &len, 4);
		res[i].len = initrd_take(&data, &len, 3);
		res[i].type = LOADER_MEM_RESERVED;
	}
	if (plan_make(&in, &p) == 0)
		plan_check(&in, &p);
	else
		PLAN_CHECK(p.err[0] != '\0');
	plan_fini(&p);
	return 0;
}
