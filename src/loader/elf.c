/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF files, both classes, as kernels: segments at their physical addresses,
 * and the note that names a PVH entry point.  Every offset is checked against
 * the file; <elf.h> gives the layout, memcpy the alignment.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "loader/plan.h"

#define ELF_MAXPHDR 64
#define ELF_NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

bool
elf_probe(const struct plan_input *in)
{
	return in->len >= SELFMAG && memcmp(in->img, ELFMAG, SELFMAG) == 0;
}

/* The file header, in the 64-bit form. */
static int
elf_header(struct plan *p, Elf64_Ehdr *eh)
{
	const struct plan_input *in = p->in;
	Elf32_Ehdr e32;
	bool is64;

	if (in->len < sizeof(e32))
		return plan_fail(p, -ENOEXEC, "truncated ELF file");
	is64 = in->img[EI_CLASS] == ELFCLASS64;
	if ((!is64 && in->img[EI_CLASS] != ELFCLASS32) ||
	    in->img[EI_DATA] != ELFDATA2LSB)
		return plan_fail(p, -ENOEXEC, "not an ELF file for x86");
	if (is64) {
		if (in->len < sizeof(*eh))
			return plan_fail(p, -ENOEXEC, "truncated ELF file");
		memcpy(eh, in->img, sizeof(*eh));
	} else {
		memcpy(&e32, in->img, sizeof(e32));
		*eh = (Elf64_Ehdr){ .e_type = e32.e_type,
			.e_machine = e32.e_machine,
			.e_entry = e32.e_entry,
			.e_phoff = e32.e_phoff,
			.e_phentsize = e32.e_phentsize,
			.e_phnum = e32.e_phnum };
		memcpy(eh->e_ident, e32.e_ident, EI_NIDENT);
	}
	if (eh->e_machine != EM_X86_64 && eh->e_machine != EM_386)
		return plan_fail(p, -ENOEXEC, "ELF file for machine %u, not x86",
		    eh->e_machine);
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return plan_fail(p, -ENOEXEC, "ELF file is not an executable");
	if (eh->e_phnum == 0 || eh->e_phnum > ELF_MAXPHDR ||
	    eh->e_phentsize != (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return plan_fail(p, -ENOEXEC,
		    "ELF file with %u program headers of %u bytes",
		    eh->e_phnum, eh->e_phentsize);
	if (eh->e_phoff > in->len ||
	    (uint64_t)eh->e_phnum * eh->e_phentsize > in->len - eh->e_phoff)
		return plan_fail(p, -ENOEXEC,
		    "truncated ELF file: program headers");
	return 0;
}

/* Program header i, in the 64-bit form, with its file part checked. */
static int
elf_segment(struct plan *p, const Elf64_Ehdr *eh, unsigned i, Elf64_Phdr *ph)
{
	const uint8_t *b = p->in->img + eh->e_phoff + i * eh->e_phentsize;
	Elf32_Phdr p32;

	if (eh->e_ident[EI_CLASS] == ELFCLASS64)
		memcpy(ph, b, sizeof(*ph));
	else {
		memcpy(&p32, b, sizeof(p32));
		*ph = (Elf64_Phdr){ .p_type = p32.p_type,
			.p_offset = p32.p_offset,
			.p_paddr = p32.p_paddr,
			.p_filesz = p32.p_filesz,
			.p_memsz = p32.p_memsz,
			.p_align = p32.p_align };
	}
	if (ph->p_type != PT_LOAD && ph->p_type != PT_NOTE)
		return 0;
	if (ph->p_offset > p->in->len ||
	    ph->p_filesz > p->in->len - ph->p_offset)
		return plan_fail(p, -ENOEXEC, "truncated ELF file: segment %u",
		    i);
	if (ph->p_type == PT_LOAD && ph->p_filesz > ph->p_memsz)
		return plan_fail(p, -ENOEXEC,
		    "ELF segment %u has more bytes in the file than in memory",
		    i);
	return 0;
}

int
elf_place(struct plan *p, uint64_t *entryp)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	char what[32];
	bool any = false;
	int error;

	error = elf_header(p, &eh);
	for (unsigned i = 0; error == 0 && i < eh.e_phnum; i++) {
		error = elf_segment(p, &eh, i, &ph);
		if (error != 0 || ph.p_type != PT_LOAD || ph.p_memsz == 0)
			continue;
		snprintf(what, sizeof(what), "ELF segment %u", i);
		error = plan_place(p, ph.p_paddr, ph.p_memsz,
		    p->in->img + ph.p_offset, ph.p_filesz, what);
		any = true;
	}
	if (error != 0)
		return error;
	if (!any)
		return plan_fail(p, -ENOEXEC, "ELF file with nothing to load");
	*entryp = eh.e_entry;
	return 0;
}

/* => true if the notes [b, b+len) have the entry */
static bool
elf_note_entry(const uint8_t *b, uint64_t len, uint64_t align,
    uint32_t *entryp)
{
	while (len >= 12) {
		uint64_t namesz = plan_get32(b), descsz = plan_get32(b + 4);
		uint32_t type = plan_get32(b + 8);
		uint64_t desc = base_roundup(12 + namesz, align);
		uint64_t next = base_roundup(desc + descsz, align);

		if (desc + descsz > len)
			return false;
		if (type == ELF_NOTE_PHYS32_ENTRY && namesz == 4 &&
		    memcmp(b + 12, "Xen", 4) == 0 && descsz >= 4) {
			*entryp = plan_get32(b + desc);
			return true;
		}
		if (next > len)
			return false;
		b += next;
		len -= next;
	}
	return false;
}

int
elf_pvh_entry(struct plan *p, uint32_t *entryp)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	int error;

	error = elf_header(p, &eh);
	for (unsigned i = 0; error == 0 && i < eh.e_phnum; i++) {
		error = elf_segment(p, &eh, i, &ph);
		if (error == 0 && ph.p_type == PT_NOTE &&
		    elf_note_entry(p->in->img + ph.p_offset, ph.p_filesz,
			ph.p_align == 8 ? 8 : 4, entryp))
			return 0;
	}
	return error != 0 ? error : -ENOENT;
}
