/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI tables (ACPI 6.0): RSDP, XSDT, FADT, FACS, MADT, HPET, DSDT.  The DSDT's AML
 * is put together here: \_S5_, and COM1 as a PNP0501 device.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform_int.h"

#define ACPI_MAX 4096

struct acpi_buf {
	uint8_t b[ACPI_MAX];
	uint32_t n;
	bool full;
};

static void
acpi_put(struct acpi_buf *a, const void *p, uint32_t n)
{
	if (n > ACPI_MAX - a->n) {
		a->full = true;
		return;
	}
	memcpy(a->b + a->n, p, n);
	a->n += n;
}

static void
acpi_u(struct acpi_buf *a, uint64_t v, unsigned n)
{
	acpi_put(a, &v, n);
}

static uint8_t
acpi_sum(const uint8_t *p, uint32_t n)
{
	uint8_t s = 0;

	while (n-- > 0)
		s += *p++;
	return (uint8_t)-s;
}

/* Starts a table; acpi_end() fills length and checksum. */
static uint32_t
acpi_begin(struct acpi_buf *a, const char *sig, uint8_t rev)
{
	uint32_t at;

	while ((a->n & 63) != 0 && !a->full)
		acpi_u(a, 0, 1);
	at = a->n;
	acpi_put(a, sig, 4);
	acpi_u(a, 0, 4);
	acpi_u(a, rev, 1);
	acpi_u(a, 0, 1);
	acpi_put(a, "HYVE  HYVEPC  ", 14);
	acpi_u(a, 1, 4);
	acpi_put(a, "HYVE", 4);
	acpi_u(a, 1, 4);
	return at;
}

static void
acpi_end(struct acpi_buf *a, uint32_t at)
{
	uint32_t len = a->n - at;

	if (a->full)
		return;
	memcpy(a->b + at + 4, &len, 4);
	a->b[at + 9] = acpi_sum(a->b + at, len);
}

/* generic address structure, I/O space */
static void
acpi_gas(struct acpi_buf *a, uint16_t port, uint8_t bits)
{
	acpi_u(a, port == 0 ? 0 : 1, 1);
	acpi_u(a, bits, 1);
	acpi_u(a, 0, 1);
	acpi_u(a, port == 0 ? 0 : bits == 8 ? 1 : port == 0x608 ? 3 : 2, 1);
	acpi_u(a, port, 8);
}

static void
acpi_fadt(struct acpi_buf *a, uint64_t facs, uint64_t dsdt)
{
	uint32_t at = acpi_begin(a, "FACP", 6);

	acpi_u(a, facs, 4);
	acpi_u(a, dsdt, 4);
	acpi_u(a, 0, 1);
	acpi_u(a, 0, 1); /* profile: unspecified */
	acpi_u(a, PLATFORM_SCI, 2);
	acpi_u(a, 0, 4); /* no SMI: ACPI mode from the start */
	acpi_u(a, 0, 4);
	acpi_u(a, 0x600, 4); /* PM1a event */
	acpi_u(a, 0, 4);
	acpi_u(a, 0x604, 4); /* PM1a control */
	acpi_u(a, 0, 4);
	acpi_u(a, 0, 4);
	acpi_u(a, 0x608, 4); /* PM timer */
	acpi_u(a, 0, 8);     /* GPE0, GPE1 */
	acpi_u(a, 4, 1);     /* PM1 event length */
	acpi_u(a, 2, 1);
	acpi_u(a, 0, 1);
	acpi_u(a, 4, 1); /* PM timer length */
	acpi_u(a, 0, 4); /* GPE lengths, base, CST */
	acpi_u(a, 0xfff, 2); /* no C2 */
	acpi_u(a, 0xfff, 2); /* no C3 */
	acpi_u(a, 0, 4);
	acpi_u(a, 0, 2);
	acpi_u(a, 0, 2);
	acpi_u(a, 0x32, 1); /* century */
	acpi_u(a, 1 | 4, 2); /* legacy devices; neither keyboard nor VGA */
	acpi_u(a, 0, 1);
	/* WBINVD, PROC_C1, sleep button none, RTC not fixed, TMR_VAL_EXT,
	 * RESET_REG_SUP */
	acpi_u(a, 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10, 4);
	acpi_gas(a, 0xcf9, 8);
	acpi_u(a, 6, 1); /* reset value */
	acpi_u(a, 0, 3);
	acpi_u(a, facs, 8);
	acpi_u(a, dsdt, 8);
	acpi_gas(a, 0x600, 32);
	acpi_gas(a, 0, 0);
	acpi_gas(a, 0x604, 16);
	acpi_gas(a, 0, 0);
	acpi_gas(a, 0, 0);
	acpi_gas(a, 0x608, 32);
	acpi_gas(a, 0, 0);
	acpi_gas(a, 0, 0);
	acpi_gas(a, 0, 0); /* sleep control, status */
	acpi_gas(a, 0, 0);
	acpi_put(a, "HYVE\0\0\0", 8); /* hypervisor */
	acpi_end(a, at);
}

static void
acpi_madt(struct acpi_buf *a, unsigned ncpu)
{
	uint32_t at = acpi_begin(a, "APIC", 3);

	acpi_u(a, PLATFORM_LAPIC_GPA, 4);
	acpi_u(a, 1, 4); /* PC-AT 8259s as well */
	for (unsigned i = 0; i < ncpu; i++) {
		acpi_u(a, 0 | 8 << 8, 2);
		acpi_u(a, i, 1);
		acpi_u(a, i, 1);
		acpi_u(a, 1, 4);
	}
	acpi_u(a, 1 | 12 << 8, 2); /* I/O APIC */
	acpi_u(a, 0, 2);
	acpi_u(a, PLATFORM_IOAPIC_GPA, 4);
	acpi_u(a, 0, 4);
	acpi_u(a, 2 | 10 << 8, 2); /* ISA 0 is pin 2 */
	acpi_u(a, 0, 1);
	acpi_u(a, 0, 1);
	acpi_u(a, 2, 4);
	acpi_u(a, 0, 2);
	acpi_u(a, 2 | 10 << 8, 2); /* SCI: level, high */
	acpi_u(a, 0, 1);
	acpi_u(a, PLATFORM_SCI, 1);
	acpi_u(a, PLATFORM_SCI, 4);
	acpi_u(a, 0xd, 2);
	acpi_u(a, 4 | 6 << 8, 2); /* LINT1 is NMI on all */
	acpi_u(a, 0xff, 1);
	acpi_u(a, 0, 2);
	acpi_u(a, 1, 1);
	acpi_end(a, at);
}

static void
acpi_hpet(struct acpi_buf *a)
{
	uint32_t at = acpi_begin(a, "HPET", 1);

	acpi_u(a, 0x8086a201, 4); /* its capabilities, low half */
	acpi_u(a, 0 | 64 << 8, 4); /* memory space, 64 bits */
	acpi_u(a, PLATFORM_HPET_GPA, 8);
	acpi_u(a, 0, 1);
	acpi_u(a, 100, 2); /* least ticks of a periodic timer */
	acpi_u(a, 0, 1);
	acpi_end(a, at);
}

static void
acpi_dsdt(struct acpi_buf *a)
{
	static const uint8_t aml[] = {
		/* Name (\_S5, Package () { 5, 0, 0, 0 }) */
		0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 0x05, 0x0a,
		0x00, 0x00, 0x00,
		/* Scope (\_SB) { Device (COM1) { */
		0x10, 0x2d, '\\', '_', 'S', 'B', '_', 0x5b, 0x82, 0x25, 'C', 'O',
		'M', '1',
		/* Name (_HID, EisaId ("PNP0501")) */
		0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01,
		/* Name (_CRS, ResourceTemplate () { IO (0x3f8, 8), IRQ 4 }) } } */
		0x08, '_', 'C', 'R', 'S', 0x11, 0x10, 0x0a, 0x0d, 0x47, 0x01,
		0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x22, 0x10, 0x00, 0x79, 0x00,
	};
	uint32_t at = acpi_begin(a, "DSDT", 2);

	acpi_put(a, aml, sizeof(aml));
	acpi_end(a, at);
}

int
platform_acpi_build(struct platform *p, gpa_t gpa, uint64_t len, gpa_t *rsdpp)
{
	struct acpi_buf a = { .n = 36 }; /* room for the RSDP in front */
	uint32_t dsdt, facs, fadt, madt, hpet, at;
	uint8_t rsdp[36] = "RSD PTR ";
	uint64_t v;
	int error;

	acpi_dsdt(&a);
	/* the first table starts at the next multiple of 64 */
	dsdt = 64;
	while ((a.n & 63) != 0)
		acpi_u(&a, 0, 1);
	facs = a.n;
	acpi_put(&a, "FACS", 4);
	acpi_u(&a, 64, 4);
	for (unsigned i = 0; i < 6; i++)
		acpi_u(&a, i == 3 ? 2 : 0, i == 5 ? 8 : 8);
	acpi_u(&a, 0, 8);
	fadt = a.n;
	acpi_fadt(&a, gpa + facs, gpa + dsdt);
	madt = (a.n + 63) & ~63u;
	acpi_madt(&a, p->cfg.ncpu);
	hpet = (a.n + 63) & ~63u;
	acpi_hpet(&a);
	at = acpi_begin(&a, "XSDT", 1);
	acpi_u(&a, gpa + fadt, 8);
	acpi_u(&a, gpa + madt, 8);
	acpi_u(&a, gpa + hpet, 8);
	acpi_end(&a, at);
	if (a.full || a.n > len)
		return -ENOSPC;
	memcpy(rsdp + 9, "HYVE  ", 6);
	rsdp[15] = 2;
	v = 36;
	memcpy(rsdp + 20, &v, 4);
	v = gpa + at;
	memcpy(rsdp + 24, &v, 8);
	rsdp[8] = acpi_sum(rsdp, 20);
	rsdp[32] = acpi_sum(rsdp, 36);
	memcpy(a.b, rsdp, 36);
	error = p->cb.write(p->cfg.arg, gpa, a.b, a.n);
	if (error == 0)
		*rsdpp = gpa;
	return error;
}
