/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ACPI tables in guest memory: found, linked and summed up as an operating
 * system does it.  With a folder as argument the tables are left there, each
 * in a file of its own, for iasl (acpi.sh).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "plat.h"

#define GPA 0xe0000ul
#define LEN 0x4000ul

static struct plat t;
static const char *acpi_dir;
static gpa_t acpi_rsdp;

static uint64_t
acpi_get(gpa_t gpa, unsigned n)
{
	uint64_t v = 0;

	assert_true(gpa >= GPA && gpa + n <= GPA + LEN);
	memcpy(&v, t.mem + gpa, n);
	return v;
}

static uint8_t
acpi_sum(gpa_t gpa, uint64_t n)
{
	uint8_t s = 0;

	while (n-- > 0)
		s = (uint8_t)(s + acpi_get(gpa++, 1));
	return s;
}

/* Checks a table's header.  => its length */
static uint32_t
acpi_table(gpa_t gpa, const char *sig)
{
	uint32_t len = (uint32_t)acpi_get(gpa + 4, 4);
	char path[4096];
	FILE *f;

	assert_memory_equal(t.mem + gpa, sig, 4);
	assert_in_range(len, 36, LEN);
	if (strcmp(sig, "FACS") != 0)
		assert_int_equal(acpi_sum(gpa, len), 0);
	if (acpi_dir != NULL) {
		snprintf(path, sizeof(path), "%s/%s.dat", acpi_dir, sig);
		f = fopen(path, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(t.mem + gpa, 1, len, f), len);
		fclose(f);
	}
	return len;
}

static int
acpi_setup(void **state)
{
	(void)state;
	plat_start(&t);
	return platform_acpi_build(t.p, GPA, LEN, &acpi_rsdp);
}

static int
acpi_teardown(void **state)
{
	(void)state;
	plat_stop(&t);
	return 0;
}

/* => the table of that name that the XSDT lists */
static gpa_t
acpi_find(const char *sig)
{
	gpa_t xsdt = acpi_get(acpi_rsdp + 24, 8), at;
	uint32_t len = acpi_table(xsdt, "XSDT");

	for (uint32_t i = 36; i < len; i += 8) {
		at = acpi_get(xsdt + i, 8);
		if (memcmp(t.mem + at, sig, 4) == 0)
			return at;
	}
	fail_msg("no %s", sig);
	return 0;
}

static void
test_root(void **state)
{
	(void)state;
	assert_int_equal(acpi_rsdp % 16, 0);
	assert_memory_equal(t.mem + acpi_rsdp, "RSD PTR ", 8);
	assert_int_equal(acpi_sum(acpi_rsdp, 20), 0);
	assert_int_equal(acpi_sum(acpi_rsdp, 36), 0);
	assert_int_equal(acpi_get(acpi_rsdp + 15, 1), 2);
}

static void
test_fadt(void **state)
{
	gpa_t fadt = acpi_find("FACP"), facs, dsdt;

	(void)state;
	assert_int_equal(acpi_table(fadt, "FACP"), 276);
	facs = acpi_get(fadt + 36, 4);
	dsdt = acpi_get(fadt + 40, 4);
	assert_int_equal(facs % 64, 0);
	assert_int_equal(acpi_get(fadt + 132, 8), facs);
	assert_int_equal(acpi_get(fadt + 140, 8), dsdt);
	assert_int_equal(acpi_table(facs, "FACS"), 64);
	assert_true(acpi_table(dsdt, "DSDT") > 36);
	assert_int_equal(acpi_get(fadt + 46, 2), 9);
	/* what it promises is there: PM1, PM timer, reset register */
	assert_int_equal(acpi_get(fadt + 56, 4), 0x600);
	assert_int_equal(acpi_get(fadt + 64, 4), 0x604);
	assert_int_equal(acpi_get(fadt + 76, 4), 0x608);
	assert_int_equal(acpi_get(fadt + 120, 8), 0xcf9);
	plat_out(&t, (uint16_t)acpi_get(fadt + 120, 8), (uint8_t)acpi_get(fadt + 128, 1));
	assert_int_equal(t.how, VMM_SUSPEND_RESET);
	/* not hardware-reduced */
	assert_int_equal(acpi_get(fadt + 112, 4) & 1 << 20, 0);
}

static void
test_madt(void **state)
{
	gpa_t madt = acpi_find("APIC");
	uint32_t len = acpi_table(madt, "APIC"), at = 44;
	unsigned cpus = 0, ioapics = 0;

	(void)state;
	assert_int_equal(acpi_get(madt + 36, 4), 0xfee00000);
	while (at < len) {
		unsigned type = (unsigned)acpi_get(madt + at, 1);
		unsigned n = (unsigned)acpi_get(madt + at + 1, 1);

		assert_true(n >= 2 && at + n <= len);
		if (type == 0)
			assert_int_equal(acpi_get(madt + at + 3, 1), cpus++);
		if (type == 1) {
			ioapics++;
			assert_int_equal(acpi_get(madt + at + 4, 4), 0xfec00000);
		}
		at += n;
	}
	assert_int_equal(cpus, PLAT_NCPU);
	assert_int_equal(ioapics, 1);
}

static void
test_hpet(void **state)
{
	gpa_t hpet = acpi_find("HPET");

	(void)state;
	assert_int_equal(acpi_table(hpet, "HPET"), 56);
	assert_int_equal(acpi_get(hpet + 36, 4),
	    plat_read(&t, 0, acpi_get(hpet + 44, 8)));
}

static void
test_room(void **state)
{
	gpa_t rsdp;

	(void)state;
	assert_int_equal(platform_acpi_build(t.p, GPA, 128, &rsdp), -ENOSPC);
	assert_int_equal(platform_acpi_build(t.p, PLAT_MEM - 64, LEN, &rsdp), -EFAULT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, acpi_setup, acpi_teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_root), T(test_fadt), T(test_madt), T(test_hpet), T(test_room),
	};

	acpi_dir = argc > 1 ? argv[1] : NULL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
