/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plans: the guest's memory map, finding room in it, and the choice of the
 * boot protocol.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/plan.h"

#define PLAN_HOLE 0xa0000ul	/* video memory and ROMs: not RAM */
#define PLAN_HOLE_END 0x100000ul
#define PLAN_FIRST 0x1000ul /* keep gpa 0 free: null pointers, real-mode IVT */

int
plan_fail(struct plan *p, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->err, sizeof(p->err), fmt, ap);
	va_end(ap);
	return error;
}

/* Adds [start, end) to the map, in parts where reserved ranges cut it. */
static void
plan_map_ram(struct plan *p, gpa_t start, gpa_t end)
{
	const struct plan_input *in = p->in;

	while (start < end) {
		gpa_t stop = end, next = end;

		for (size_t i = 0; i < in->nreserved; i++) {
			gpa_t rs = in->reserved[i].gpa;
			gpa_t re = rs + in->reserved[i].len;

			if (re <= start || rs >= stop)
				continue;
			stop = rs > start ? rs : start;
			next = re;
		}
		if (stop > start && p->nmap < PLAN_MAXMAP)
			p->map[p->nmap++] = (struct loader_range){
				start, stop - start, LOADER_MEM_RAM };
		start = next > stop ? next : stop;
	}
}

static int
plan_map_compare(const void *a, const void *b)
{
	const struct loader_range *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static int
plan_map_make(struct plan *p)
{
	const struct plan_input *in = p->in;

	if (in->nreserved > LOADER_MAXRESERVED)
		return plan_fail(p, -EINVAL, "too many reserved ranges");
	for (size_t i = 0; i < in->nreserved; i++)
		if (in->reserved[i].len == 0 ||
		    in->reserved[i].gpa + in->reserved[i].len <=
			in->reserved[i].gpa)
			return plan_fail(p, -EINVAL, "bad reserved range");
	plan_map_ram(p, 0, base_min(in->low, PLAN_HOLE));
	if (in->low > PLAN_HOLE_END)
		plan_map_ram(p, PLAN_HOLE_END, in->low);
	if (in->high > 0)
		plan_map_ram(p, VMM_HIGHMEM_BASE, VMM_HIGHMEM_BASE + in->high);
	for (size_t i = 0; i < in->nreserved && p->nmap < PLAN_MAXMAP; i++)
		p->map[p->nmap++] = in->reserved[i];
	qsort(p->map, p->nmap, sizeof(p->map[0]), plan_map_compare);
	return 0;
}

/*
 * => true if [gpa, gpa+len) is RAM and free.  Otherwise *belowp is the start
 *    and *abovep the end of what is in the way.
 */
static bool
plan_is_free(const struct plan *p, gpa_t gpa, uint64_t len, gpa_t *belowp,
    gpa_t *abovep)
{
	const struct loader_range *ram = NULL;

	for (unsigned i = 0; i < p->npiece; i++) {
		const struct plan_piece *q = &p->piece[i];

		if (gpa < q->gpa + q->len && q->gpa < gpa + len) {
			*belowp = q->gpa;
			*abovep = q->gpa + q->len;
			return false;
		}
	}
	for (unsigned i = 0; i < p->nmap; i++)
		if (p->map[i].type == LOADER_MEM_RAM && p->map[i].gpa <= gpa)
			ram = &p->map[i];
	if (ram != NULL && gpa - ram->gpa < ram->len &&
	    len <= ram->len - (gpa - ram->gpa))
		return true;
	/* In the way is the gap after the range that it begins in or behind. */
	*belowp = ram == NULL ? 0 : ram->gpa + ram->len;
	*abovep = UINT64_MAX;
	for (unsigned i = 0; i < p->nmap; i++)
		if (p->map[i].type == LOADER_MEM_RAM && p->map[i].gpa > gpa &&
		    p->map[i].gpa < *abovep)
			*abovep = p->map[i].gpa;
	return false;
}

int
plan_find(const struct plan *p, uint64_t len, uint64_t align, gpa_t min,
    gpa_t max, enum plan_dir dir, gpa_t *gpap)
{
	gpa_t top = VMM_HIGHMEM_BASE + p->in->high;
	gpa_t below = 0, above = 0, gpa;

	if (p->in->high == 0)
		top = p->in->low;
	if (max == 0 || max > top)
		max = top;
	min = base_max(min, PLAN_FIRST);
	if (len == 0 || align == 0 || (align & (align - 1)) != 0 || len > max ||
	    min > max - len)
		return -ENOSPC;
	/* Each step passes one obstacle, so this ends. */
	if (dir == PLAN_HIGHEST) {
		gpa = (max - len) & ~(align - 1);
		while (gpa >= min) {
			if (plan_is_free(p, gpa, len, &below, &above)) {
				*gpap = gpa;
				return 0;
			}
			if (below < len)
				break;
			gpa = (below - len) & ~(align - 1);
		}
		return -ENOSPC;
	}
	gpa = (min + align - 1) & ~(align - 1);
	while (gpa >= min && gpa <= max - len) {
		if (plan_is_free(p, gpa, len, &below, &above)) {
			*gpap = gpa;
			return 0;
		}
		if (above > max)
			break;
		gpa = (above + align - 1) & ~(align - 1);
	}
	return -ENOSPC;
}

static int
plan_add(struct plan *p, const struct plan_piece *piece)
{
	if (p->npiece == PLAN_MAXPIECE)
		return plan_fail(p, -E2BIG, "too many segments");
	p->piece[p->npiece++] = *piece;
	return 0;
}

int
plan_place(struct plan *p, gpa_t gpa, uint64_t len, const void *data,
    uint64_t datalen, const char *what)
{
	gpa_t below, above;

	KASSERT(datalen <= len, "%s", what);
	if (len == 0)
		return 0;
	if (gpa + len < gpa || !plan_is_free(p, gpa, len, &below, &above)) {
		for (unsigned i = 0; i < p->npiece; i++)
			if (gpa + len > gpa &&
			    gpa < p->piece[i].gpa + p->piece[i].len &&
			    p->piece[i].gpa < gpa + len)
				return plan_fail(p, -EEXIST,
				    "%s at %#llx overlaps another part", what,
				    (unsigned long long)gpa);
		return plan_fail(p, -ENOMEM,
		    "%s needs %#llx bytes of memory at %#llx, which the "
		    "guest has not",
		    what, (unsigned long long)len, (unsigned long long)gpa);
	}
	return plan_add(p,
	    &(struct plan_piece){ gpa, len, data, datalen, -1 });
}

void *
plan_buffer(struct plan *p, size_t len)
{
	void *b;

	KASSERT(p->nown < PLAN_MAXOWN, "plan has %u buffers", p->nown);
	b = calloc(1, len == 0 ? 1 : len);
	if (b == NULL) {
		(void)plan_fail(p, -ENOMEM, "out of memory");
		return NULL;
	}
	p->own[p->nown++] = b;
	return b;
}

int
plan_place_low(struct plan *p, const void *data, uint64_t len,
    const char *what, gpa_t *gpap)
{
	int error;

	error = plan_find(p, len, VMM_PAGE_SIZE, 0, PLAN_HOLE, PLAN_LOWEST,
	    gpap);
	if (error != 0)
		error = plan_find(p, len, VMM_PAGE_SIZE, 0, p->in->low,
		    PLAN_HIGHEST, gpap);
	if (error != 0)
		return plan_fail(p, error, "no memory left for its %s", what);
	return plan_place(p, *gpap, len, data, len, what);
}

int
plan_place_module(struct plan *p, unsigned i, gpa_t gpa)
{
	KASSERT(i < p->in->nmodule, "module %u", i);
	return plan_add(p,
	    &(struct plan_piece){ gpa, p->in->module[i].len, NULL, 0, (int)i });
}

int
plan_place_modules(struct plan *p, gpa_t out[LOADER_MAXMODULES])
{
	int error;

	for (unsigned i = 0; i < p->in->nmodule; i++) {
		error = plan_find(p, p->in->module[i].len, VMM_PAGE_SIZE, 0,
		    p->in->low, PLAN_HIGHEST, &out[i]);
		if (error != 0)
			return plan_fail(p, error,
			    "no room for %s (%llu bytes) in %llu MB of memory",
			    p->in->module[i].name,
			    (unsigned long long)p->in->module[i].len,
			    (unsigned long long)(p->in->low >> 20));
		error = plan_place_module(p, i, out[i]);
		if (error != 0)
			return error;
	}
	return 0;
}

int
plan_place_gdt(struct plan *p)
{
	/*
	 * The selectors that Linux' boot protocol asks for; the others are
	 * content with any.  Null, null, code, data, busy TSS (two slots).
	 */
	const uint64_t code = p->mode == PLAN_LONG64 ? 0x00af9b000000ffff :
						       0x00cf9b000000ffff;
	const uint64_t desc[6] = { 0, 0, code, 0x00cf93000000ffff,
		0x00008b0000000067, 0 };
	uint8_t *b = plan_buffer(p, sizeof(desc));

	if (b == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < 6; i++)
		plan_put64(b + 8 * i, desc[i]);
	return plan_place_low(p, b, sizeof(desc), "descriptor table", &p->gdt);
}

int
plan_make(const struct plan_input *in, struct plan *p)
{
	uint32_t entry;
	size_t header;
	int error;

	memset(p, 0, sizeof(*p));
	p->in = in;
	error = plan_map_make(p);
	if (error != 0)
		return error;
	for (unsigned i = 0; i < in->nmodule; i++)
		if (in->module[i].len == 0)
			return plan_fail(p, -EINVAL, "%s is empty",
			    in->module[i].name);
	if (elf_probe(in)) {
		error = elf_pvh_entry(p, &entry);
		if (error == 0)
			return pvh_plan(p, entry);
		if (error != -ENOENT)
			return error;
		if (multiboot_probe(in, &header))
			return multiboot_plan(p, header);
		return plan_fail(p, -ENOEXEC,
		    "ELF file with neither a PVH entry nor a multiboot header");
	}
	if (bzimage_probe(in))
		return bzimage_plan(p);
	if (multiboot_probe(in, &header))
		return multiboot_plan(p, header);
	return plan_fail(p, -ENOEXEC,
	    "not a kernel: neither Linux bzImage nor ELF nor multiboot");
}

void
plan_fini(struct plan *p)
{
	for (unsigned i = 0; i < p->nown; i++)
		free(p->own[i]);
	p->nown = p->npiece = 0;
}
