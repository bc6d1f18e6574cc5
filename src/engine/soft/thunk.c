/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Thunks: one guest instruction, re-encoded, run natively.
 *
 * A thunk is a function of our ABI, int fn(cpu, mem): it loads the guest
 * registers that the instruction names from cpu->gpr, and the flags, runs the
 * instruction with its memory operand at mem, and stores what it wrote.  The
 * guest's RSP is a value like any other: it is loaded into a register that the
 * instruction does not use, and renamed.  So are the registers that hold cpu
 * and mem.
 *
 * The memory of thunks belongs to one vCPU, is mapped twice (written through
 * one mapping, executed through the other) and is cut into slots of equal
 * size, each beginning with a thunk_slot.  From the address at which a signal
 * met us the handler finds the slot, and from it whether that is the guest's
 * instruction and where the way out is: nothing of the guest's state has been
 * stored then, so the executor finds the state before the instruction.
 *
 * Slots are found by instruction bytes and code size; they do not depend on
 * address or page, so that nothing ever makes one stale.  When all are taken
 * all are dropped, and thunk_gen tells the holders of slot numbers.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/soft/exec_int.h"

#define THUNK_SLOT 256u
#define THUNK_SLOTS 16384u
#define THUNK_BYTES ((size_t)THUNK_SLOT * THUNK_SLOTS)
#define THUNK_HASH (2 * THUNK_SLOTS)

struct thunk_slot {
	uint16_t insn;	/* offsets in the slot */
	uint16_t abort;
	uint32_t pad;
	uint8_t code[];
};

struct thunk_key {
	uint64_t b[2];
	uint32_t mode_len; /* 0: empty */
	uint32_t slot;
};

struct thunk_mem {
	uint8_t *rw, *rx;
	uint32_t used; /* slots */
	uint32_t gen;
	struct thunk_key hash[THUNK_HASH];
};

/* Of the vCPU whose thunks the calling thread runs. */
static __thread const struct thunk_mem *thunk_self;

int
exec_thunk_init(struct soft_cpu *cpu)
{
	struct thunk_mem *t;
	int fd, error;

	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	t->gen = 1;
	fd = memfd_create("soft-thunk", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, THUNK_BYTES) != 0)
		goto fail;
	t->rw = mmap(NULL, THUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
	    0);
	if (t->rw == MAP_FAILED)
		goto fail;
	t->rx = mmap(NULL, THUNK_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd,
	    0);
	if (t->rx == MAP_FAILED) {
		error = errno;
		munmap(t->rw, THUNK_BYTES);
		errno = error;
		goto fail;
	}
	close(fd);
	cpu->thunk = t;
	return 0;
fail:
	error = errno;
	if (fd >= 0)
		close(fd);
	free(t);
	return -error;
}

void
exec_thunk_fini(struct soft_cpu *cpu)
{
	struct thunk_mem *t = cpu->thunk;

	if (t == NULL)
		return;
	if (thunk_self == t)
		thunk_self = NULL;
	munmap(t->rw, THUNK_BYTES);
	munmap(t->rx, THUNK_BYTES);
	free(t);
	cpu->thunk = NULL;
}

/* --- emitting ---------------------------------------------------------- */

struct thunk_buf {
	uint8_t b[THUNK_SLOT * 2];
	unsigned n;
};

static void
thunk_byte(struct thunk_buf *o, unsigned v)
{
	o->b[o->n++] = (uint8_t)v;
}

/* push (0x50) or pop (0x58) */
static void
thunk_pushpop(struct thunk_buf *o, unsigned op, unsigned r)
{
	if (r >= 8)
		thunk_byte(o, 0x41);
	thunk_byte(o, op + (r & 7));
}

static void
thunk_mov(struct thunk_buf *o, unsigned dst, unsigned src)
{
	thunk_byte(o, 0x48 | (src >= 8 ? 4 : 0) | (dst >= 8 ? 1 : 0));
	thunk_byte(o, 0x89);
	thunk_byte(o, 0xc0 | (src & 7) << 3 | (dst & 7));
}

/* mov between a register and [base + disp]; base is never rsp or r12 */
static void
thunk_ldst(struct thunk_buf *o, bool store, bool wide, unsigned r,
    unsigned base, size_t disp)
{
	bool d8 = disp < 128;
	unsigned rex = (wide ? 8 : 0) | (r >= 8 ? 4 : 0) | (base >= 8 ? 1 : 0);

	if (rex != 0)
		thunk_byte(o, 0x40 | rex);
	thunk_byte(o, store ? 0x89 : 0x8b);
	thunk_byte(o, (d8 ? 0x40 : 0x80) | (r & 7) << 3 | (base & 7));
	thunk_byte(o, disp & 0xff);
	if (!d8) {
		thunk_byte(o, disp >> 8 & 0xff);
		thunk_byte(o, disp >> 16 & 0xff);
		thunk_byte(o, disp >> 24);
	}
}

static void
thunk_bytes(struct thunk_buf *o, const void *p, unsigned n)
{
	memcpy(o->b + o->n, p, n);
	o->n += n;
}

/* The first register of order[] that is in none of used; -1: none */
static int
thunk_pick(const uint8_t *order, unsigned n, unsigned used)
{
	for (unsigned i = 0; i < n; i++)
		if (!(used & 1u << order[i]))
			return order[i];
	return -1;
}

/* eax ← RFLAGS image at [S]; the arithmetic flags ← it */
static const uint8_t thunk_flags_in[] = {
	0x86, 0xc4, /* xchg ah,al: al is bits 8-15, OF its bit 3 */
	0x24, 0x08, /* and al,8 */
	0x04, 0x78, /* add al,0x78: OF if bit 3 was set */
	0x9e,	    /* sahf */
};
/* eax ← RFLAGS image of the arithmetic flags */
static const uint8_t thunk_flags_out[] = {
	0x9f,			      /* lahf */
	0x0f, 0x90, 0xc0,	      /* seto al */
	0xc0, 0xe0, 0x03,	      /* shl al,3 */
	0x86, 0xc4,		      /* xchg ah,al */
	0x25, 0xd5, 0x08, 0x00, 0x00, /* and eax,0x8d5 */
};

static int
thunk_emit(const struct soft_insn *in, struct thunk_buf *o,
    struct thunk_slot *head)
{
	/* not rax (flags pass through it), not rsi, rsp, r12 */
	static const uint8_t state_order[] = {
		7, 11, 10, 9, 8, 3, 5, 13, 14, 15,
	};
	/* low registers first: high bytes go with no REX prefix; rax is
	 * left out for the flags' sake */
	static const uint8_t mem_order[] = {
		6, 2, 1, 3, 5, 8, 9, 10, 11, 14, 15,
	};
	static const uint8_t callee[] = { 3, 5, 12, 13, 14, 15 };
	unsigned regs = in->gpr_read | in->gpr_write, busy, r;
	struct soft_recode rc = { .mem_index = -1, .mem_scale = 1 };
	uint8_t code[16];
	int state, mem, sp = 4, len;
	bool fin, fout;

	busy = (regs & ~(1u << 4)) | 1u << 4;
	state = thunk_pick(state_order, sizeof(state_order), busy | 1u << 6);
	if (state < 0)
		return -ENOTSUP;
	busy |= 1u << state;
	mem = thunk_pick(mem_order, sizeof(mem_order), busy | 1u << 7);
	if (mem < 0)
		return -ENOTSUP;
	busy |= 1u << mem;
	if (regs & 1u << 4) {
		sp = thunk_pick(mem_order, sizeof(mem_order), busy);
		if (sp < 0)
			return -ENOTSUP;
		busy |= 1u << sp;
	}
	for (r = 0; r < 16; r++)
		rc.map[r] = (uint8_t)r;
	rc.map[4] = (uint8_t)sp;
	rc.mem_base = (int8_t)mem;
	len = soft_recode(in, &rc, code);
	if (len < 0)
		return len;

	fin = in->fl_read != 0 || in->fl_undef != 0 || in->fl_cond_write ||
	    (in->fl_write != 0 && in->fl_write != SOFT_FL_ARITH);
	fout = in->fl_write != 0 || in->fl_undef != 0 || in->fl_cond_write;

	for (r = 0; r < sizeof(callee); r++)
		if (busy & 1u << callee[r])
			thunk_pushpop(o, 0x50, callee[r]);
	if (state != 7)
		thunk_mov(o, (unsigned)state, 7);
	if (mem != 6)
		thunk_mov(o, (unsigned)mem, 6);
	if (fin) {
		thunk_ldst(o, false, false, 0, (unsigned)state,
		    offsetof(struct soft_cpu, flags_saved));
		thunk_bytes(o, thunk_flags_in, sizeof(thunk_flags_in));
	}
	for (r = 0; r < 16; r++)
		if (regs & 1u << r)
			thunk_ldst(o, false, true, rc.map[r], (unsigned)state,
			    offsetof(struct soft_cpu, gpr) + 8 * r);
	head->insn = (uint16_t)(o->n + sizeof(*head));
	thunk_bytes(o, code, (unsigned)len);
	for (r = 0; r < 16; r++)
		if (in->gpr_write & 1u << r)
			thunk_ldst(o, true, true, rc.map[r], (unsigned)state,
			    offsetof(struct soft_cpu, gpr) + 8 * r);
	if (fout) {
		thunk_bytes(o, thunk_flags_out, sizeof(thunk_flags_out));
		thunk_ldst(o, true, false, 0, (unsigned)state,
		    offsetof(struct soft_cpu, flags_saved));
	}
	thunk_byte(o, 0x31); /* xor eax,eax */
	thunk_byte(o, 0xc0);
	head->abort = (uint16_t)(o->n + sizeof(*head));
	for (r = sizeof(callee); r-- > 0;)
		if (busy & 1u << callee[r])
			thunk_pushpop(o, 0x58, callee[r]);
	thunk_byte(o, 0xc3);
	return o->n + sizeof(*head) <= THUNK_SLOT ? 0 : -ENOTSUP;
}

/* --- the cache of thunks ----------------------------------------------- */

static void
thunk_key(const struct soft_cpu *cpu, const struct soft_insn *in,
    struct thunk_key *k)
{
	memset(k, 0, sizeof(*k));
	memcpy(k->b, in->bytes, in->len);
	k->mode_len = 1u << 16 | in->len << 8 |
	    (cpu->mode_key & (SOFT_KEY_L | SOFT_KEY_D));
}

int
exec_thunk_make(struct soft_cpu *cpu, struct exec_op *x)
{
	struct thunk_mem *t = cpu->thunk;
	struct thunk_buf o;
	struct thunk_slot head = { 0 };
	struct thunk_key k, *e;
	uint64_t h, i;
	uint8_t *slot;
	int error;

	if (x->thunk_gen == t->gen)
		return 0;
	thunk_key(cpu, x->in, &k);
	h = (k.b[0] ^ (k.b[1] + k.mode_len) * 0x9e3779b97f4a7c15ul) *
	    0xbf58476d1ce4e5b9ul;
	h >>= 32;
	for (i = h;; i++) {
		e = &t->hash[i % THUNK_HASH];
		if (e->mode_len == 0)
			break;
		if (e->mode_len == k.mode_len && e->b[0] == k.b[0] &&
		    e->b[1] == k.b[1]) {
			x->thunk = e->slot;
			x->thunk_gen = t->gen;
			return 0;
		}
	}
	o.n = 0;
	error = thunk_emit(x->in, &o, &head);
	if (error != 0)
		return error;
	if (t->used == THUNK_SLOTS) {
		memset(t->hash, 0, sizeof(t->hash));
		t->used = 0;
		t->gen++;
		e = &t->hash[h % THUNK_HASH];
	}
	k.slot = t->used++;
	slot = t->rw + (size_t)k.slot * THUNK_SLOT;
	memcpy(slot, &head, sizeof(head));
	memcpy(slot + sizeof(head), o.b, o.n);
	*e = k;
	x->thunk = k.slot;
	x->thunk_gen = t->gen;
	return 0;
}

int
exec_thunk_run(struct soft_cpu *cpu, const struct exec_op *x, void *mem)
{
	struct thunk_mem *t = cpu->thunk;
	const struct thunk_slot *s;
	exec_thunk_fn fn;
	uint64_t rip = cpu->rip;
	int trap;

	thunk_self = t;
	s = (const void *)(t->rx + (size_t)x->thunk * THUNK_SLOT);
	fn = (exec_thunk_fn)(uintptr_t)s->code;
	cpu->st.exec_thunk++;
	if (!x->vec) {
		trap = fn(cpu, mem);
	} else {
		trap = exec_thunk_vec(cpu, mem, (void *)(uintptr_t)s->code,
		    cpu->xsave, exec_fpu_mask());
		if (x->in->fpu && trap == 0)
			exec_fpu_pointers(cpu, x, rip);
	}
	if (__builtin_expect(trap == 0, 1))
		return SOFT_OK;
	switch (--trap) {
	case SOFT_EXC_XM:
		if (!(cpu->cr4 & EXEC_CR4_OSXMMEXCPT))
			trap = SOFT_EXC_UD;
		return soft_raise(cpu, (uint8_t)trap);
	case SOFT_EXC_GP:
	case SOFT_EXC_SS:
	case SOFT_EXC_AC:
		return soft_raise_err(cpu, (uint8_t)trap, 0);
	default:
		return soft_raise(cpu, (uint8_t)trap);
	}
}

/* --- host signals ------------------------------------------------------ */

bool
soft_thunk_contains(uint64_t pc)
{
	const struct thunk_mem *t = thunk_self;

	return t != NULL && pc - (uintptr_t)t->rx < THUNK_BYTES;
}

bool
soft_thunk_signal(void *ucp)
{
	ucontext_t *uc = ucp;
	uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	uint64_t trap = (uint64_t)uc->uc_mcontext.gregs[REG_TRAPNO];
	const struct thunk_slot *s;

	if (!soft_thunk_contains(pc))
		return false;
	switch (trap) {
	case SOFT_EXC_DE: case SOFT_EXC_OF: case SOFT_EXC_UD:
	case SOFT_EXC_SS: case SOFT_EXC_GP: case SOFT_EXC_MF:
	case SOFT_EXC_AC: case SOFT_EXC_XM:
		break;
	default:
		return false; /* a page fault, say: not the guest's doing */
	}
	s = (const void *)(thunk_self->rx +
	    (pc - (uintptr_t)thunk_self->rx) / THUNK_SLOT * THUNK_SLOT);
	if (pc != (uintptr_t)s + s->insn)
		return false;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)((uintptr_t)s + s->abort);
	uc->uc_mcontext.gregs[REG_RAX] = (greg_t)trap + 1;
	return true;
}
