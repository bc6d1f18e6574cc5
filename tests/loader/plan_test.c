/* SPDX-License-Identifier: BSD-2-Clause */
/* The boot protocols over images made here; plans are checked, not run. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "plan_check.h"

#define MB (1ul << 20)
#define GB (1ul << 30)

static uint8_t img[16384];
static const struct loader_range acpi = { 0xf0000, 0x10000, LOADER_MEM_ACPI };

static struct plan_input
input(size_t len, uint64_t memory)
{
	return (struct plan_input){ .img = img, .len = len, .name = "kernel",
		.append = "console=ttyS0", .rsdp = 0xf2400,
		.low = base_min(memory, VMM_LOWMEM_LIMIT),
		.high = memory > VMM_LOWMEM_LIMIT ? memory - VMM_LOWMEM_LIMIT :
						    0,
		.reserved = &acpi, .nreserved = 1 };
}

/* The byte of guest memory that the plan puts at gpa. */
static uint8_t
plan_byte(const struct plan *p, gpa_t gpa)
{
	for (unsigned i = 0; i < p->npiece; i++) {
		const struct plan_piece *q = &p->piece[i];

		if (gpa >= q->gpa && gpa - q->gpa < q->datalen)
			return ((const uint8_t *)q->data)[gpa - q->gpa];
	}
	return 0;
}

static uint64_t
plan_value(const struct plan *p, gpa_t gpa, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)plan_byte(p, gpa + i) << (8 * i);
	return v;
}

static void
plan_string(const struct plan *p, gpa_t gpa, char *buf, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++)
		buf[i] = (char)plan_byte(p, gpa + i);
	buf[len - 1] = '\0';
}

static const struct plan_piece *
plan_module(const struct plan *p, int i)
{
	for (unsigned k = 0; k < p->npiece; k++)
		if (p->piece[k].module == i)
			return &p->piece[k];
	return NULL;
}

static void
must_fail(const struct plan_input *in, int error, const char *reason)
{
	struct plan p;

	assert_int_equal(plan_make(in, &p), error);
	if (strstr(p.err, reason) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", p.err, reason);
	plan_fini(&p);
}

/* --- bzImage --------------------------------------------------------------- */

static size_t
make_bzimage(void)
{
	memset(img, 0, sizeof(img));
	img[0x1f1] = 1;
	plan_put32(img + 0x1f4, 0x1000 / 16);
	plan_put16(img + 0x1fe, 0xaa55);
	img[0x201] = 0x6a;
	memcpy(img + 0x202, "HdrS", 4);
	plan_put16(img + 0x206, 0x20f);
	img[0x211] = 1;
	plan_put32(img + 0x22c, 0x7fffffff);
	plan_put32(img + 0x230, 2 * MB);
	img[0x234] = 1;
	plan_put16(img + 0x236, 3);
	plan_put32(img + 0x238, 2047);
	plan_put64(img + 0x258, 16 * MB);
	plan_put32(img + 0x260, 60 * MB);
	memset(img + 0x400, 0x90, 0x1000);
	return 0x1400;
}

static void
test_bzimage(void **state)
{
	struct plan_input in = input(make_bzimage(), 512 * MB);
	struct plan p;
	char s[64];
	gpa_t zp;

	(void)state;
	in.nmodule = 1;
	in.module[0].len = 5 * MB + 1;
	in.module[0].name = "initrd";
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(p.mode, PLAN_LONG64);
	assert_int_equal(p.rip, 16 * MB + 0x200);
	assert_int_equal(plan_byte(&p, 16 * MB), 0x90);
	assert_int_equal(plan_byte(&p, 16 * MB + 0xfff), 0x90);
	/* Identity, 2 MB pages, from the top table down. */
	for (uint64_t gva = 0; gva < 4 * GB; gva += 333 * MB) {
		uint64_t e = plan_value(&p, p.cr3, 8);

		assert_int_equal(e & 0xfff, 3);
		e = plan_value(&p, (e & ~0xffful) + 8 * (gva >> 30), 8);
		assert_int_equal(e & 0xfff, 3);
		e = plan_value(&p, (e & ~0xffful) + 8 * (gva >> 21 & 511), 8);
		assert_int_equal(e, (gva & ~(2 * MB - 1)) | 0x83);
	}
	/* Zero page. */
	zp = p.rsi;
	assert_int_equal(plan_value(&p, zp + 0x202, 4), 0x53726448);
	assert_int_equal(plan_byte(&p, zp + 0x210), 0xff);
	assert_int_equal(plan_value(&p, zp + 0x70, 8), 0xf2400);
	assert_int_equal(plan_value(&p, zp + 0x21c, 4), 5 * MB + 1);
	assert_int_equal(plan_value(&p, zp + 0x218, 4),
	    plan_module(&p, 0)->gpa);
	assert_int_equal(plan_module(&p, 0)->gpa, 512 * MB - 5 * MB - 4096);
	plan_string(&p, plan_value(&p, zp + 0x228, 4), s, sizeof(s));
	assert_string_equal(s, "console=ttyS0");
	/* Memory map: conventional, ACPI, extended. */
	assert_int_equal(plan_byte(&p, zp + 0x1e8), 3);
	assert_int_equal(plan_value(&p, zp + 0x2d0, 8), 0);
	assert_int_equal(plan_value(&p, zp + 0x2d8, 8), 0xa0000);
	assert_int_equal(plan_value(&p, zp + 0x2e4, 8), 0xf0000);
	assert_int_equal(plan_value(&p, zp + 0x2e4 + 16, 4), LOADER_MEM_ACPI);
	assert_int_equal(plan_value(&p, zp + 0x2f8, 8), MB);
	assert_int_equal(plan_value(&p, zp + 0x300, 8), 511 * MB);
	plan_fini(&p);
}

static void
test_bzimage_placing(void **state)
{
	struct loader_range res[2] = { acpi, { 20 * MB, MB, LOADER_MEM_NVS } };
	struct plan_input in = input(make_bzimage(), 8 * GB);
	struct plan p;

	(void)state;
	/* A range in the way of the preferred address: the next one fits. */
	in.reserved = res;
	in.nreserved = 2;
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(p.rip, 22 * MB + 0x200);
	assert_int_equal(p.nmap, 6);
	assert_int_equal(p.map[5].gpa, 4 * GB);
	assert_int_equal(p.map[5].len, 5 * GB);
	plan_fini(&p);
	/* Not relocatable: there or not at all. */
	img[0x234] = 0;
	must_fail(&in, -ENOMEM, "kernel needs");
	in.nreserved = 1;
	assert_int_equal(plan_make(&in, &p), 0);
	assert_int_equal(p.rip, 16 * MB + 0x200);
	plan_fini(&p);
	/* The header's limit for the initrd holds. */
	plan_put32(img + 0x22c, 128 * MB - 1);
	in.nmodule = 1;
	in.module[0].len = 10 * MB;
	in.module[0].name = "initrd";
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(plan_module(&p, 0)->gpa, 118 * MB);
	plan_fini(&p);
	/* Too large for that, but it may lie above 4 GB. */
	in.module[0].len = 100 * MB;
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(plan_module(&p, 0)->gpa, 9 * GB - 100 * MB);
	assert_int_equal(plan_value(&p, p.rsi + 0xc0, 4), 2);
	plan_fini(&p);
	/* ... unless the kernel cannot. */
	plan_put16(img + 0x236, 1);
	must_fail(&in, -ENOMEM, "no room for initrd");
	/* Several archives, each four-byte aligned, one size. */
	in.nmodule = 2;
	in.module[0].len = 4097;
	in.module[1].len = 10;
	in.module[1].name = "second";
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(plan_module(&p, 1)->gpa,
	    plan_module(&p, 0)->gpa + 4100);
	assert_int_equal(plan_value(&p, p.rsi + 0x21c, 4), 4110);
	plan_fini(&p);
}

static void
test_bzimage_bad(void **state)
{
	struct plan_input in = input(make_bzimage(), 512 * MB);
	char append[3000];

	(void)state;
	for (size_t len = 0x206; len < 0x13f0; len += 7) {
		in.len = len;
		must_fail(&in, -ENOEXEC, "truncated");
	}
	in.len = 0x1400;
	plan_put16(img + 0x206, 0x20b);
	must_fail(&in, -ENOEXEC, "protocol 2.11");
	plan_put16(img + 0x206, 0x20f);
	plan_put16(img + 0x236, 0);
	must_fail(&in, -ENOEXEC, "not a 64-bit Linux kernel");
	make_bzimage();
	in.low = 32 * MB;
	must_fail(&in, -ENOMEM, "needs 60 MB of memory from 16 MB on");
	in.low = 80 * MB;
	in.nmodule = 1;
	in.module[0].len = 81 * MB;
	in.module[0].name = "huge";
	must_fail(&in, -ENOMEM, "no room for huge");
	in.module[0].len = 0;
	must_fail(&in, -EINVAL, "huge is empty");
	in.nmodule = 0;
	memset(append, 'x', sizeof(append) - 1);
	append[sizeof(append) - 1] = '\0';
	in.append = append;
	must_fail(&in, -E2BIG, "may have 2047 bytes, not 2999");
	plan_put64(img + 0x258, 1ul << 63);
	must_fail(&in, -ENOMEM, "needs");
	plan_put32(img + 0x230, 3);
	must_fail(&in, -ENOEXEC, "alignment");
}

/* --- ELF ---------------------------------------------------------------------- */

static const uint8_t pvh_note[20] = { 4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X',
	'e', 'n', 0, 0x40, 0, 0x20, 0 };

/* Two segments and a note. */
static size_t
make_elf64(void)
{
	Elf64_Ehdr eh = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64,
			      ELFDATA2LSB, 1 },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_entry = 0x200000,
		.e_phoff = 64,
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3 };
	const Elf64_Phdr ph[3] = {
		{ .p_type = PT_LOAD, .p_offset = 4096, .p_paddr = 2 * MB,
		    .p_filesz = 100, .p_memsz = 100 },
		{ .p_type = PT_LOAD, .p_offset = 5000, .p_paddr = 3 * MB,
		    .p_filesz = 50, .p_memsz = MB },
		{ .p_type = PT_NOTE, .p_offset = 1000, .p_filesz = 20 },
	};

	memset(img, 0, sizeof(img));
	memcpy(img, &eh, sizeof(eh));
	memcpy(img + 64, ph, sizeof(ph));
	memcpy(img + 1000, pvh_note, sizeof(pvh_note));
	memset(img + 4096, 0xf4, 100);
	memset(img + 5000, 0x11, 50);
	return 8192;
}

static Elf64_Phdr *
elf64_phdr(unsigned i)
{
	return (Elf64_Phdr *)(void *)(img + 64) + i;
}

static void
test_pvh(void **state)
{
	struct plan_input in = input(make_elf64(), 4 * GB);
	struct plan p;
	gpa_t info, list;
	char s[64];

	(void)state;
	in.nmodule = 2;
	in.module[0].len = 12345;
	in.module[0].name = "one";
	in.module[1].len = 1;
	in.module[1].name = "two";
	in.module[1].args = "its args";
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(p.mode, PLAN_PROT32);
	assert_int_equal(p.rip, 0x200040);
	assert_int_equal(plan_byte(&p, 2 * MB + 99), 0xf4);
	assert_int_equal(plan_byte(&p, 3 * MB + 49), 0x11);
	info = p.rbx;
	assert_int_equal(plan_value(&p, info, 4), 0x336ec578);
	assert_int_equal(plan_value(&p, info + 4, 4), 1);
	assert_int_equal(plan_value(&p, info + 12, 4), 2);
	assert_int_equal(plan_value(&p, info + 32, 8), 0xf2400);
	plan_string(&p, plan_value(&p, info + 24, 8), s, sizeof(s));
	assert_string_equal(s, "console=ttyS0");
	list = plan_value(&p, info + 16, 8);
	assert_int_equal(plan_value(&p, list, 8), plan_module(&p, 0)->gpa);
	assert_int_equal(plan_value(&p, list + 8, 8), 12345);
	assert_int_equal(plan_value(&p, list + 16, 8), 0);
	plan_string(&p, plan_value(&p, list + 48, 8), s, sizeof(s));
	assert_string_equal(s, "its args");
	/* Its memory map: 640 KB, ACPI, to 3 GB, from 4 GB. */
	assert_int_equal(plan_value(&p, info + 48, 4), 4);
	list = plan_value(&p, info + 40, 8) + 3 * 24;
	assert_int_equal(plan_value(&p, list, 8), 4 * GB);
	assert_int_equal(plan_value(&p, list + 8, 8), GB);
	assert_int_equal(plan_value(&p, list + 16, 4), LOADER_MEM_RAM);
	plan_fini(&p);
}

static void
test_elf_bad(void **state)
{
	struct plan_input in = input(make_elf64(), 512 * MB);
	Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)img;

	(void)state;
	for (size_t len = 4; len < 5050; len += 11) {
		in.len = len;
		must_fail(&in, -ENOEXEC, "truncated");
	}
	in.len = 8192;
	elf64_phdr(1)->p_paddr = 2 * MB + 99;
	must_fail(&in, -EEXIST, "overlaps");
	elf64_phdr(1)->p_paddr = 0x9f000;
	must_fail(&in, -ENOMEM, "which the guest has not");
	elf64_phdr(1)->p_paddr = UINT64_MAX - 4096;
	must_fail(&in, -ENOMEM, "which the guest has not");
	elf64_phdr(1)->p_paddr = 3 * MB;
	elf64_phdr(1)->p_memsz = UINT64_MAX;
	must_fail(&in, -ENOMEM, "which the guest has not");
	elf64_phdr(1)->p_memsz = 49;
	must_fail(&in, -ENOEXEC, "more bytes in the file");
	elf64_phdr(1)->p_offset = UINT64_MAX - 10;
	must_fail(&in, -ENOEXEC, "truncated");
	make_elf64();
	eh->e_phnum = 65535;
	must_fail(&in, -ENOEXEC, "65535 program headers");
	eh->e_phnum = 3;
	eh->e_phentsize = 1;
	must_fail(&in, -ENOEXEC, "program headers");
	make_elf64();
	eh->e_machine = EM_AARCH64;
	must_fail(&in, -ENOEXEC, "machine 183");
	eh->e_machine = EM_X86_64;
	eh->e_type = ET_REL;
	must_fail(&in, -ENOEXEC, "not an executable");
	make_elf64();
	eh->e_ident[EI_DATA] = ELFDATA2MSB;
	must_fail(&in, -ENOEXEC, "not an ELF file for x86");
	make_elf64();
	img[1008] = 17; /* no entry note any more */
	must_fail(&in, -ENOEXEC, "neither a PVH entry nor a multiboot header");
}

/* --- multiboot ------------------------------------------------------------------ */

static void
put_multiboot(size_t at, uint32_t flags)
{
	plan_put32(img + at, 0x1badb002);
	plan_put32(img + at + 4, flags);
	plan_put32(img + at + 8, -(0x1badb002 + flags));
}

static void
test_multiboot(void **state)
{
	struct plan_input in = input(make_elf64(), 64 * MB);
	struct plan p;
	gpa_t info, mod;
	char s[64];

	(void)state;
	img[1008] = 17;
	put_multiboot(4096, 3);
	in.nmodule = 1;
	in.module[0].len = 777;
	in.module[0].name = "mod";
	in.module[0].args = "x y";
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(p.mode, PLAN_PROT32);
	assert_int_equal(p.rax, 0x2badb002);
	assert_int_equal(p.rip, 0x200000);
	info = p.rbx;
	assert_int_equal(plan_value(&p, info, 4), 0x24d);
	assert_int_equal(plan_value(&p, info + 4, 4), 640);
	assert_int_equal(plan_value(&p, info + 8, 4), 63 * 1024);
	plan_string(&p, plan_value(&p, info + 16, 4), s, sizeof(s));
	assert_string_equal(s, "kernel console=ttyS0");
	assert_int_equal(plan_value(&p, info + 20, 4), 1);
	mod = plan_value(&p, info + 24, 4);
	assert_int_equal(plan_value(&p, mod, 4), plan_module(&p, 0)->gpa);
	assert_int_equal(plan_value(&p, mod, 4) & 0xfff, 0);
	assert_int_equal(plan_value(&p, mod + 4, 4),
	    plan_module(&p, 0)->gpa + 777);
	plan_string(&p, plan_value(&p, mod + 8, 4), s, sizeof(s));
	assert_string_equal(s, "mod x y");
	assert_int_equal(plan_value(&p, info + 44, 4), 3 * 24);
	mod = plan_value(&p, info + 48, 4) + 2 * 24;
	assert_int_equal(plan_value(&p, mod, 4), 20);
	assert_int_equal(plan_value(&p, mod + 4, 8), MB);
	assert_int_equal(plan_value(&p, mod + 12, 8), 63 * MB);
	plan_fini(&p);
}

static void
test_multiboot_raw(void **state)
{
	struct plan_input in = input(8192, 64 * MB);
	struct plan p;

	(void)state;
	memset(img, 0x90, sizeof(img));
	put_multiboot(512, 0x10000);
	plan_put32(img + 524, MB + 512);  /* header address */
	plan_put32(img + 528, MB + 256);  /* load address */
	plan_put32(img + 532, MB + 4096); /* end */
	plan_put32(img + 536, 2 * MB);	  /* end of bss */
	plan_put32(img + 540, MB + 1024); /* entry */
	assert_int_equal(plan_make(&in, &p), 0);
	plan_check(&in, &p);
	assert_int_equal(p.rip, MB + 1024);
	assert_int_equal(p.piece[0].gpa, MB + 256);
	assert_int_equal(p.piece[0].datalen, 4096 - 256);
	assert_int_equal(p.piece[0].len, MB - 256);
	assert_ptr_equal(p.piece[0].data, img + 256);
	plan_fini(&p);
	/* End 0: the rest of the file; no bss. */
	plan_put32(img + 532, 0);
	plan_put32(img + 536, 0);
	assert_int_equal(plan_make(&in, &p), 0);
	assert_int_equal(p.piece[0].len, 8192 - 256);
	plan_fini(&p);

	plan_put32(img + 532, MB + 9000);
	must_fail(&in, -ENOEXEC, "truncated");
	plan_put32(img + 532, MB);
	must_fail(&in, -ENOEXEC, "truncated");
	plan_put32(img + 532, 0);
	plan_put32(img + 528, MB + 1024);
	must_fail(&in, -ENOEXEC, "impossible addresses");
	plan_put32(img + 528, MB - 4096);
	must_fail(&in, -ENOEXEC, "impossible addresses");
	plan_put32(img + 528, MB + 256);
	plan_put32(img + 536, MB + 300);
	must_fail(&in, -ENOEXEC, "impossible addresses");
	in.len = 540;
	must_fail(&in, -ENOEXEC, "truncated multiboot header");
	in.len = 8192;
	put_multiboot(512, 0x8);
	must_fail(&in, -ENOEXEC, "unknown features");
	put_multiboot(512, 0);
	must_fail(&in, -ENOEXEC, "not ELF");
	img[512] ^= 1;
	must_fail(&in, -ENOEXEC, "not a kernel");
	in.len = 0;
	must_fail(&in, -ENOEXEC, "not a kernel");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bzimage),
		cmocka_unit_test(test_bzimage_placing),
		cmocka_unit_test(test_bzimage_bad),
		cmocka_unit_test(test_pvh),
		cmocka_unit_test(test_elf_bad),
		cmocka_unit_test(test_multiboot),
		cmocka_unit_test(test_multiboot_raw),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
