/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst
 * of Linux): the protected-mode part of the file is loaded where the header
 * asks, and entered 0x200 bytes in, in long mode, with paging on and memory
 * mapped one to one, RSI at the "zero page" of boot parameters.
 *
 * The kernel unpacks itself in place and needs init_size bytes from its load
 * address on for that; nothing of ours may lie there.
 */
#include <errno.h>
#include <string.h>

#include "loader/plan.h"

/* Offsets in the file's first sectors; the zero page has them too. */
#define BZ_SETUP_SECTS 0x1f1
#define BZ_SYSSIZE 0x1f4
#define BZ_BOOT_FLAG 0x1fe
#define BZ_JUMP 0x200
#define BZ_MAGIC 0x202
#define BZ_VERSION 0x206
#define BZ_TYPE_OF_LOADER 0x210
#define BZ_LOADFLAGS 0x211
#define BZ_RAMDISK_IMAGE 0x218
#define BZ_RAMDISK_SIZE 0x21c
#define BZ_CMD_LINE_PTR 0x228
#define BZ_INITRD_ADDR_MAX 0x22c
#define BZ_KERNEL_ALIGNMENT 0x230
#define BZ_RELOCATABLE 0x234
#define BZ_XLOADFLAGS 0x236
#define BZ_CMDLINE_SIZE 0x238
#define BZ_PREF_ADDRESS 0x258
#define BZ_INIT_SIZE 0x260
#define BZ_HEADER_MIN 0x264 /* protocol 2.12, the first with 64-bit entry */

#define BZ_XLF_KERNEL_64 0x1
#define BZ_XLF_ABOVE_4G 0x2
#define BZ_LOADED_HIGH 0x1
#define BZ_ENTRY64 0x200

/* Only in the zero page. */
#define ZP_SIZE 4096
#define ZP_ACPI_RSDP 0x070
#define ZP_EXT_RAMDISK_IMAGE 0x0c0
#define ZP_EXT_RAMDISK_SIZE 0x0c4
#define ZP_E820_ENTRIES 0x1e8
#define ZP_HEADER_END 0x290
#define ZP_E820 0x2d0
#define ZP_E820_SIZE 20
_Static_assert(ZP_E820 + PLAN_MAXMAP * ZP_E820_SIZE <= ZP_SIZE,
    "memory map fits in the zero page");

struct bzimage {
	size_t setup;  /* bytes of the real-mode part */
	size_t code;   /* bytes of the protected-mode part */
	uint64_t need; /* bytes from the load address on */
	uint64_t pref, align;
	uint32_t initrd_max, cmdline_max;
	uint16_t xloadflags;
	bool relocatable;
	gpa_t load;
};

bool
bzimage_probe(const struct plan_input *in)
{
	return in->len >= BZ_MAGIC + 4 &&
	    memcmp(in->img + BZ_MAGIC, "HdrS", 4) == 0;
}

static int
bzimage_parse(struct plan *p, struct bzimage *bz)
{
	const uint8_t *h = p->in->img;
	uint16_t version;
	uint64_t size;

	if (p->in->len < BZ_HEADER_MIN)
		return plan_fail(p, -ENOEXEC, "truncated Linux kernel");
	version = plan_get16(h + BZ_VERSION);
	if (version < 0x20c || plan_get16(h + BZ_BOOT_FLAG) != 0xaa55)
		return plan_fail(p, -ENOEXEC,
		    "Linux boot protocol %u.%02u has no 64-bit entry (2.12 has)",
		    version >> 8, version & 0xff);
	bz->xloadflags = plan_get16(h + BZ_XLOADFLAGS);
	if ((bz->xloadflags & BZ_XLF_KERNEL_64) == 0 ||
	    (h[BZ_LOADFLAGS] & BZ_LOADED_HIGH) == 0)
		return plan_fail(p, -ENOEXEC, "not a 64-bit Linux kernel");
	bz->setup = ((h[BZ_SETUP_SECTS] == 0 ? 4 : h[BZ_SETUP_SECTS]) + 1) * 512;
	size = plan_get32(h + BZ_SYSSIZE) * 16ul;
	/* The size is in paragraphs, the file may end within the last one. */
	if (bz->setup >= p->in->len || size <= BZ_ENTRY64 ||
	    size > p->in->len - bz->setup + 15)
		return plan_fail(p, -ENOEXEC,
		    "truncated Linux kernel: %zu of %llu bytes", p->in->len,
		    (unsigned long long)(bz->setup + size));
	bz->code = base_min(size, p->in->len - bz->setup);
	bz->need = base_max(plan_get32(h + BZ_INIT_SIZE), size);
	bz->pref = plan_get64(h + BZ_PREF_ADDRESS);
	bz->align = plan_get32(h + BZ_KERNEL_ALIGNMENT);
	bz->relocatable = h[BZ_RELOCATABLE] != 0;
	bz->initrd_max = plan_get32(h + BZ_INITRD_ADDR_MAX);
	bz->cmdline_max = plan_get32(h + BZ_CMDLINE_SIZE);
	if (bz->align < VMM_PAGE_SIZE || (bz->align & (bz->align - 1)) != 0)
		return plan_fail(p, -ENOEXEC,
		    "Linux kernel with alignment %#llx",
		    (unsigned long long)bz->align);
	return 0;
}

static int
bzimage_place_kernel(struct plan *p, struct bzimage *bz)
{
	gpa_t min = base_max(bz->pref, 0x100000ul);
	int error;

	/*
	 * A relocatable kernel loaded below its preferred address would unpack
	 * itself to that address all the same, so lower is never tried.  Below
	 * 4 GB, because entry needs it mapped one to one.
	 */
	bz->load = bz->pref;
	if (bz->relocatable) {
		error = plan_find(p, bz->need, bz->align, min, p->in->low,
		    PLAN_LOWEST, &bz->load);
		if (error != 0)
			return plan_fail(p, -ENOMEM,
			    "needs %llu MB of memory from %llu MB on, the guest "
			    "has %llu MB",
			    (unsigned long long)(bz->need >> 20),
			    (unsigned long long)(min >> 20),
			    (unsigned long long)(p->in->low >> 20));
	} else if (bz->pref >= VMM_LOWMEM_LIMIT)
		return plan_fail(p, -ENOEXEC,
		    "wants to be loaded at %#llx, above 3 GB",
		    (unsigned long long)bz->pref);
	return plan_place(p, bz->load, bz->need, p->in->img + bz->setup,
	    bz->code, "kernel");
}

static int
bzimage_place_initrd(struct plan *p, const struct bzimage *bz, uint8_t *zp)
{
	const struct plan_input *in = p->in;
	uint64_t total = 0, off = 0;
	gpa_t gpa, max;
	int error;

	if (in->nmodule == 0)
		return 0;
	/* cpio archives may follow each other, four-byte aligned. */
	for (unsigned i = 0; i < in->nmodule; i++) {
		total = base_roundup(total, 4) + in->module[i].len;
		if (total < in->module[i].len)
			return plan_fail(p, -E2BIG, "%s is too large",
			    in->module[i].name);
	}
	max = base_min(in->low, bz->initrd_max + 1ul);
	error = plan_find(p, total, VMM_PAGE_SIZE, 0, max, PLAN_HIGHEST, &gpa);
	if (error != 0 && (bz->xloadflags & BZ_XLF_ABOVE_4G) != 0 &&
	    in->high > 0)
		error = plan_find(p, total, VMM_PAGE_SIZE, VMM_HIGHMEM_BASE, 0,
		    PLAN_HIGHEST, &gpa);
	if (error != 0)
		return plan_fail(p, -ENOMEM,
		    "no room for %s (%llu bytes) beside the kernel in %llu MB "
		    "of memory",
		    in->module[0].name, (unsigned long long)total,
		    (unsigned long long)((in->low + in->high) >> 20));
	for (unsigned i = 0; i < in->nmodule; i++) {
		off = base_roundup(off, 4);
		error = plan_place_module(p, i, gpa + off);
		if (error != 0)
			return error;
		off += in->module[i].len;
	}
	plan_put32(zp + BZ_RAMDISK_IMAGE, (uint32_t)gpa);
	plan_put32(zp + ZP_EXT_RAMDISK_IMAGE, (uint32_t)(gpa >> 32));
	plan_put32(zp + BZ_RAMDISK_SIZE, (uint32_t)total);
	plan_put32(zp + ZP_EXT_RAMDISK_SIZE, (uint32_t)(total >> 32));
	return 0;
}

static int
bzimage_place_cmdline(struct plan *p, const struct bzimage *bz, uint8_t *zp)
{
	const char *s = p->in->append != NULL ? p->in->append : "";
	size_t len = strlen(s);
	gpa_t gpa;
	int error;

	if (len > bz->cmdline_max)
		return plan_fail(p, -E2BIG,
		    "its command line may have %u bytes, not %zu",
		    bz->cmdline_max, len);
	error = plan_place_low(p, s, len + 1, "command line", &gpa);
	plan_put32(zp + BZ_CMD_LINE_PTR, (uint32_t)gpa);
	return error;
}

/* The first 4 GB one to one in 2 MB pages: 1 + 1 + 4 tables. */
static int
bzimage_place_tables(struct plan *p)
{
	const unsigned ntable = 6;
	uint8_t *t = plan_buffer(p, ntable * VMM_PAGE_SIZE);
	int error;

	if (t == NULL)
		return -ENOMEM;
	error = plan_place_low(p, t, ntable * VMM_PAGE_SIZE, "page tables",
	    &p->cr3);
	if (error != 0)
		return error;
	plan_put64(t, (p->cr3 + VMM_PAGE_SIZE) | 0x3);
	for (unsigned i = 0; i < 4; i++)
		plan_put64(t + VMM_PAGE_SIZE + 8 * i,
		    (p->cr3 + (2 + i) * VMM_PAGE_SIZE) | 0x3);
	for (uint64_t i = 0; i < 2048; i++)
		plan_put64(t + 2 * VMM_PAGE_SIZE + 8 * i, i << 21 | 0x83);
	return 0;
}

int
bzimage_plan(struct plan *p)
{
	const uint8_t *h = p->in->img;
	struct bzimage bz = { 0 };
	uint8_t *zp;
	size_t end;
	int error;

	p->protocol = "Linux, 64-bit";
	p->mode = PLAN_LONG64;
	error = bzimage_parse(p, &bz);
	if (error != 0)
		return error;
	zp = plan_buffer(p, ZP_SIZE);
	if (zp == NULL)
		return -ENOMEM;
	/* The header ends where its first jump goes. */
	end = base_min(BZ_MAGIC + (size_t)h[BZ_JUMP + 1], (size_t)ZP_HEADER_END);
	end = base_min(end, p->in->len);
	if (end > BZ_SETUP_SECTS)
		memcpy(zp + BZ_SETUP_SECTS, h + BZ_SETUP_SECTS,
		    end - BZ_SETUP_SECTS);
	zp[BZ_TYPE_OF_LOADER] = 0xff; /* none of the registered ones */

	error = bzimage_place_kernel(p, &bz);
	if (error == 0)
		error = plan_place_low(p, zp, ZP_SIZE, "boot parameters",
		    &p->rsi);
	if (error == 0)
		error = bzimage_place_cmdline(p, &bz, zp);
	if (error == 0)
		error = plan_place_gdt(p);
	if (error == 0)
		error = bzimage_place_tables(p);
	if (error == 0)
		error = bzimage_place_initrd(p, &bz, zp);
	if (error != 0)
		return error;

	plan_put64(zp + ZP_ACPI_RSDP, p->in->rsdp);
	zp[ZP_E820_ENTRIES] = (uint8_t)p->nmap;
	for (unsigned i = 0; i < p->nmap; i++) {
		uint8_t *e = zp + ZP_E820 + i * ZP_E820_SIZE;

		plan_put64(e, p->map[i].gpa);
		plan_put64(e + 8, p->map[i].len);
		plan_put32(e + 16, p->map[i].type);
	}
	p->rip = bz.load + BZ_ENTRY64;
	return 0;
}
