/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * String instructions.
 *
 * A repeated one goes in chunks: as many elements as lie in one page on both
 * sides, found in the TLB, are done at once by the host's own instruction on
 * host pointers.  That makes overlapping operands come out as on hardware,
 * because pages of the guest that are the same are so for the host.  Anything
 * else (page-crossing element, device memory, a page with translated code, a
 * segment limit, ports) goes element by element through the checked accessors.
 *
 * RCX, RSI and RDI are updated after each chunk, so a fault or an exit finds
 * them as of the last completed iteration, and rip still at the instruction.
 * Between chunks a waiting event ends the call likewise: running the
 * instruction again goes on where it was.
 */
#include "engine/soft/exec_int.h"

enum exec_str_op {
	EXEC_S_MOVS, EXEC_S_STOS, EXEC_S_LODS, EXEC_S_CMPS, EXEC_S_SCAS,
	EXEC_S_INS, EXEC_S_OUTS, EXEC_S_NONE
};

struct exec_str {
	enum exec_str_op op;
	unsigned size;	 /* of an element */
	unsigned shift;	 /* log2 of it */
	unsigned seg;	 /* of the source */
	unsigned abytes; /* address size */
	uint64_t amask;
	bool down;	 /* DF */
	bool until_equal; /* REPNE */
};

static enum exec_str_op
exec_str_op(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOVSB: case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD: case ZYDIS_MNEMONIC_MOVSQ:
		return EXEC_S_MOVS;
	case ZYDIS_MNEMONIC_STOSB: case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD: case ZYDIS_MNEMONIC_STOSQ:
		return EXEC_S_STOS;
	case ZYDIS_MNEMONIC_LODSB: case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD: case ZYDIS_MNEMONIC_LODSQ:
		return EXEC_S_LODS;
	case ZYDIS_MNEMONIC_CMPSB: case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD: case ZYDIS_MNEMONIC_CMPSQ:
		return EXEC_S_CMPS;
	case ZYDIS_MNEMONIC_SCASB: case ZYDIS_MNEMONIC_SCASW:
	case ZYDIS_MNEMONIC_SCASD: case ZYDIS_MNEMONIC_SCASQ:
		return EXEC_S_SCAS;
	case ZYDIS_MNEMONIC_INSB: case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
		return EXEC_S_INS;
	case ZYDIS_MNEMONIC_OUTSB: case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		return EXEC_S_OUTS;
	default:
		return EXEC_S_NONE;
	}
}

/* Element size: opcodes with bit 0 clear are the byte forms. */
static unsigned
exec_str_size(const struct soft_insn *in)
{
	return in->zi.opcode & 1 ? in->opsize : 1;
}

static uint64_t
exec_areg(const struct soft_cpu *cpu, const struct exec_str *s, unsigned r)
{
	return cpu->gpr[r] & s->amask;
}

/* The register moves on by n elements. */
static void
exec_advance(struct soft_cpu *cpu, const struct exec_str *s, unsigned r,
    uint64_t n)
{
	uint64_t d = n << s->shift;

	exec_wreg(cpu, r, s->abytes, cpu->gpr[r] + (s->down ? -d : d));
}

static void
exec_cmp_flags(struct soft_cpu *cpu, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t fl;

	switch (size) {
	case 1:
		__asm__("cmpb %2,%1; pushfq; popq %0" : "=r"(fl)
		    : "q"((uint8_t)a), "q"((uint8_t)b) : "cc", "memory");
		break;
	case 2:
		__asm__("cmpw %2,%1; pushfq; popq %0" : "=r"(fl)
		    : "r"((uint16_t)a), "r"((uint16_t)b) : "cc", "memory");
		break;
	case 4:
		__asm__("cmpl %2,%1; pushfq; popq %0" : "=r"(fl)
		    : "r"((uint32_t)a), "r"((uint32_t)b) : "cc", "memory");
		break;
	default:
		__asm__("cmpq %2,%1; pushfq; popq %0" : "=r"(fl)
		    : "r"(a), "r"(b) : "cc", "memory");
		break;
	}
	cpu->flags_saved = (uint32_t)fl & SOFT_FL_ARITH;
}

/* --- one element, checked ---------------------------------------------- */

static int
exec_str_ins(struct soft_cpu *cpu, const struct exec_str *s)
{
	uint64_t di = exec_areg(cpu, s, VMM_REG_RDI);
	uint16_t port = (uint16_t)cpu->gpr[VMM_REG_RDX];
	uint32_t data = 0;
	gva_t la;
	int ret;

	/* The port is read only if the result has somewhere to go. */
	ret = exec_linear(cpu, VMM_SEG_ES, di, s->size, VMM_PROT_WRITE, &la);
	if (ret == SOFT_OK)
		ret = exec_probe(cpu, la, s->size, VMM_PROT_WRITE);
	if (ret == SOFT_OK)
		ret = soft_io(cpu, port, s->size, true, &data);
	if (ret == SOFT_OK)
		ret = soft_write(cpu, la, &data, s->size, false);
	if (ret == SOFT_OK)
		exec_advance(cpu, s, VMM_REG_RDI, 1);
	return ret;
}

static int
exec_str_outs(struct soft_cpu *cpu, const struct exec_str *s)
{
	uint16_t port = (uint16_t)cpu->gpr[VMM_REG_RDX];
	uint64_t val;
	uint32_t data;
	int ret;

	ret = exec_load(cpu, s->seg, exec_areg(cpu, s, VMM_REG_RSI), s->size,
	    &val);
	if (ret != SOFT_OK)
		return ret;
	data = (uint32_t)val;
	ret = soft_io(cpu, port, s->size, false, &data);
	if (ret == SOFT_OK)
		exec_advance(cpu, s, VMM_REG_RSI, 1);
	return ret;
}

static int
exec_str_one(struct soft_cpu *cpu, const struct exec_str *s)
{
	uint64_t si = exec_areg(cpu, s, VMM_REG_RSI), a = 0, b = 0;
	uint64_t di = exec_areg(cpu, s, VMM_REG_RDI);
	int ret = SOFT_OK;

	switch (s->op) {
	case EXEC_S_INS:
		return exec_str_ins(cpu, s);
	case EXEC_S_OUTS:
		return exec_str_outs(cpu, s);
	case EXEC_S_MOVS:
	case EXEC_S_LODS:
	case EXEC_S_CMPS:
		ret = exec_load(cpu, s->seg, si, s->size, &a);
		break;
	default:
		a = cpu->gpr[VMM_REG_RAX] & exec_mask(s->size);
		break;
	}
	if (ret != SOFT_OK)
		return ret;
	switch (s->op) {
	case EXEC_S_MOVS:
	case EXEC_S_STOS:
		ret = exec_store(cpu, VMM_SEG_ES, di, s->size, a);
		break;
	case EXEC_S_CMPS:
	case EXEC_S_SCAS:
		ret = exec_load(cpu, VMM_SEG_ES, di, s->size, &b);
		if (ret == SOFT_OK)
			exec_cmp_flags(cpu, a, b, s->size);
		break;
	default:
		exec_wreg(cpu, VMM_REG_RAX, s->size, a);
		break;
	}
	if (ret != SOFT_OK)
		return ret;
	if (s->op != EXEC_S_STOS && s->op != EXEC_S_SCAS)
		exec_advance(cpu, s, VMM_REG_RSI, 1);
	if (s->op != EXEC_S_LODS)
		exec_advance(cpu, s, VMM_REG_RDI, 1);
	return SOFT_OK;
}

/* --- chunks ------------------------------------------------------------ */

/*
 * Limits *np to the elements from off on that are in one page and do not wrap,
 * and gives the host pointer of the element at off.
 * => false: none can be done at once
 */
static bool
exec_str_ptr(struct soft_cpu *cpu, const struct exec_str *s, unsigned seg,
    uint64_t off, int access, uint64_t *np, uint8_t **pp)
{
	uint64_t n = *np, room, lo;
	unsigned inpage, bytes;
	gva_t la;
	void *p;

	if (exec_linear(cpu, seg, off, s->size, access, &la) != SOFT_OK)
		return false;
	inpage = la & VMM_PAGE_MASK;
	if (inpage + s->size > VMM_PAGE_SIZE)
		return false;
	if (s->down) {
		room = base_min((uint64_t)inpage, off);
		n = base_min(n, (room >> s->shift) + 1);
		lo = off - ((n - 1) << s->shift);
	} else {
		room = VMM_PAGE_SIZE - inpage;
		if (s->amask - off < room)
			room = s->amask - off + 1;
		n = base_min(n, room >> s->shift);
		lo = off;
	}
	if (n == 0)
		return false;
	/* Outside 64-bit mode the whole of it must be within the limit. */
	if (!(cpu->mode_key & SOFT_KEY_L) && n > 1) {
		gva_t first;

		if (exec_linear(cpu, seg, lo, (unsigned)(n << s->shift),
		    access, &first) != SOFT_OK)
			return false;
	}
	/* All of it at once, so that a page with translated code is told of
	 * every byte. */
	bytes = (unsigned)((n - 1) << s->shift);
	if (exec_ptr(cpu, s->down ? la - bytes : la, bytes + s->size, access,
	    &p) != SOFT_OK)
		return false;
	*np = n;
	*pp = (uint8_t *)p + (s->down ? bytes : 0);
	return true;
}

/* Still in the TLB at the same place?  (Filling one side may drop another.) */
static bool
exec_str_hit(struct soft_cpu *cpu, const struct exec_str *s, unsigned seg,
    uint64_t off, int access, const uint8_t *p)
{
	gva_t la;

	return exec_linear(cpu, seg, off, s->size, access, &la) == SOFT_OK &&
	    exec_tlb(cpu, la, s->size, access & VMM_PROT_WRITE) == p;
}

#define EXEC_REP(name, insn)						\
static void								\
name(const struct exec_str *s, uint8_t *d, const uint8_t *src,		\
    uint64_t ax, uint64_t n)						\
{									\
	if (s->down)							\
		__asm__ volatile("std");				\
	switch (s->size) {						\
	case 1:								\
		__asm__ volatile("rep " insn "b" : "+D"(d), "+S"(src),	\
		    "+c"(n) : "a"(ax) : "memory");			\
		break;							\
	case 2:								\
		__asm__ volatile("rep " insn "w" : "+D"(d), "+S"(src),	\
		    "+c"(n) : "a"(ax) : "memory");			\
		break;							\
	case 4:								\
		__asm__ volatile("rep " insn "l" : "+D"(d), "+S"(src),	\
		    "+c"(n) : "a"(ax) : "memory");			\
		break;							\
	default:							\
		__asm__ volatile("rep " insn "q" : "+D"(d), "+S"(src),	\
		    "+c"(n) : "a"(ax) : "memory");			\
		break;							\
	}								\
	if (s->down)							\
		__asm__ volatile("cld");				\
}
EXEC_REP(exec_rep_movs, "movs")
EXEC_REP(exec_rep_stos, "stos")

/*
 * Compares up to n elements (q == NULL: of d with ax) until the condition
 * ends it; sets flags from the last pair.  => elements compared, *endp
 */
static uint64_t
exec_rep_cmp(struct soft_cpu *cpu, const struct exec_str *s, const uint8_t *d,
    const uint8_t *q, uint64_t ax, uint64_t n, bool *endp)
{
	int64_t step = s->down ? -(int64_t)s->size : (int64_t)s->size;
	uint64_t i = 0, a = 0, b = 0;

	/* Skip what is equal, eight bytes at a time. */
	if (q != NULL && !s->until_equal && !s->down) {
		uint64_t k = 0, bytes = n << s->shift;

		while (k + 8 <= bytes && exec_get(d + k, 8) ==
		    exec_get(q + k, 8))
			k += 8;
		i = k >> s->shift;
		if (i == n)
			i--;
	}
	*endp = false;
	for (; i < n; i++) {
		a = q != NULL ? exec_get(q + (int64_t)i * step, s->size) : ax;
		b = exec_get(d + (int64_t)i * step, s->size);
		if ((a == b) == s->until_equal) {
			*endp = true;
			i++;
			break;
		}
	}
	exec_cmp_flags(cpu, a, b, s->size);
	return i;
}

/* => elements done, 0: none can be done this way; *endp: condition met */
static uint64_t
exec_str_chunk(struct soft_cpu *cpu, const struct exec_str *s, uint64_t n,
    bool *endp)
{
	uint64_t si = exec_areg(cpu, s, VMM_REG_RSI), ax;
	uint64_t di = exec_areg(cpu, s, VMM_REG_RDI);
	bool src = s->op != EXEC_S_STOS && s->op != EXEC_S_SCAS;
	bool dst = s->op != EXEC_S_LODS;
	int dacc = s->op == EXEC_S_MOVS || s->op == EXEC_S_STOS ?
	    VMM_PROT_WRITE : VMM_PROT_READ;
	uint8_t *p = NULL, *d = NULL;

	ax = cpu->gpr[VMM_REG_RAX] & exec_mask(s->size);
	if (src && !exec_str_ptr(cpu, s, s->seg, si, VMM_PROT_READ, &n, &p))
		return 0;
	if (dst && !exec_str_ptr(cpu, s, VMM_SEG_ES, di, dacc, &n, &d))
		return 0;
	if (src && dst &&
	    !exec_str_hit(cpu, s, s->seg, si, VMM_PROT_READ, p))
		return 0;
	switch (s->op) {
	case EXEC_S_MOVS:
		exec_rep_movs(s, d, p, 0, n);
		break;
	case EXEC_S_STOS:
		exec_rep_stos(s, d, d, ax, n);
		break;
	case EXEC_S_LODS:
		p += (int64_t)(n - 1) * (s->down ? -(int64_t)s->size :
		    (int64_t)s->size);
		exec_wreg(cpu, VMM_REG_RAX, s->size, exec_get(p, s->size));
		break;
	default:
		n = exec_rep_cmp(cpu, s, d, src ? p : NULL, ax, n, endp);
		break;
	}
	if (src)
		exec_advance(cpu, s, VMM_REG_RSI, n);
	if (dst)
		exec_advance(cpu, s, VMM_REG_RDI, n);
	return n;
}

int
exec_string(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	struct exec_str s;
	uint64_t count, n;
	bool end = false, cond, ports;
	int ret;

	s.op = exec_str_op(in->zi.mnemonic);
	if (s.op == EXEC_S_NONE)
		return soft_raise(cpu, SOFT_EXC_UD);
	s.size = exec_str_size(in);
	ports = s.op == EXEC_S_INS || s.op == EXEC_S_OUTS;
	if (ports && s.size == 8)
		s.size = 4;
	s.shift = (unsigned)__builtin_ctz(s.size);
	s.seg = x->seg;
	s.abytes = in->addrsize;
	s.amask = exec_mask(s.abytes);
	s.down = cpu->rflags_sys & SOFT_FL_DF;
	s.until_equal = in->repne;
	if (ports) {
		/* Before memory is looked at, and even for no element. */
		ret = soft_io_check(cpu, (uint16_t)cpu->gpr[VMM_REG_RDX],
		    s.size);
		if (ret != SOFT_OK)
			return ret;
	}
	if (!in->rep && !in->repne) {
		ret = exec_str_one(cpu, &s);
		return ret == SOFT_OK ? exec_done(cpu, in) : ret;
	}
	cond = s.op == EXEC_S_CMPS || s.op == EXEC_S_SCAS;
	while ((count = exec_areg(cpu, &s, VMM_REG_RCX)) != 0) {
		n = 0;
		if (!ports && !(cpu->rflags_sys & SOFT_FL_TF))
			n = exec_str_chunk(cpu, &s, count, &end);
		if (n == 0) {
			ret = exec_str_one(cpu, &s);
			if (ret != SOFT_OK)
				return ret;
			n = 1;
			if (cond)
				end = !(cpu->flags_saved & SOFT_FL_ZF) !=
				    s.until_equal;
		}
		exec_wreg(cpu, VMM_REG_RCX, s.abytes, count - n);
		if (end || count == n)
			break;
		/* More to do, but something waits: go on in the next call. */
		if (cpu->rflags_sys & SOFT_FL_TF ||
		    atomic_load_explicit(&cpu->exit_request,
		    memory_order_relaxed) != 0)
			return SOFT_OK;
	}
	return exec_done(cpu, in);
}
