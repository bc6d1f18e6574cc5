/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Device accesses, and the exits that nobody in the core answers.
 *
 * An access that the core does not know leaves run() with cpu->exit filled;
 * the next run() brings the answer, and the instruction runs again from its
 * start (replay_armed: no event comes before it).  So that it does not repeat what it has already done (a read with a
 * side effect, the read half of a read-modify-write, the first piece of a
 * misaligned access), every access done by the current instruction is noted,
 * and a re-run takes it from the notes.  The current instruction is known by
 * its rip, by the executor's count of instructions (soft_step_one() moves the
 * notes to the new count of a re-run), and by the registers that tell one
 * iteration of a REP string instruction from the next; nothing else changes
 * those before it is complete.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "engine/soft/soft_int.h"

int
soft_exit_error(struct soft_cpu *cpu, const char *fmt, ...)
{
	char line[200];
	va_list ap;

	soft_fpu_put(cpu);
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_error("vCPU %u: %s", cpu->id, line);
	return soft_exit(cpu, VMM_EXIT_ERROR);
}

static bool
replay_current(const struct soft_cpu *cpu)
{
	return cpu->replay_rip == cpu->rip &&
	    cpu->replay_exec == cpu->st.exec &&
	    cpu->replay_reg[0] == cpu->gpr[VMM_REG_RCX] &&
	    cpu->replay_reg[1] == cpu->gpr[VMM_REG_RSI] &&
	    cpu->replay_reg[2] == cpu->gpr[VMM_REG_RDI];
}

static bool
replay_find(struct soft_cpu *cpu, uint8_t kind, uint64_t addr, unsigned n,
    bool write, uint64_t *datap)
{
	const struct soft_replay *p;

	if (cpu->replay_pos >= cpu->replay_n || !replay_current(cpu))
		return false;
	p = &cpu->replay[cpu->replay_pos];
	if (p->kind != kind || p->addr != addr || p->bytes != n ||
	    p->write != write)
		return false;
	if (!write)
		*datap = p->data;
	cpu->replay_pos++;
	return true;
}

static void
replay_note(struct soft_cpu *cpu, uint8_t kind, uint64_t addr, unsigned n,
    bool write, uint64_t data)
{
	if (!replay_current(cpu)) {
		cpu->replay_n = 0;
		cpu->replay_rip = cpu->rip;
		cpu->replay_exec = cpu->st.exec;
		cpu->replay_reg[0] = cpu->gpr[VMM_REG_RCX];
		cpu->replay_reg[1] = cpu->gpr[VMM_REG_RSI];
		cpu->replay_reg[2] = cpu->gpr[VMM_REG_RDI];
	}
	/* More than any instruction makes: begin anew rather than overrun. */
	if (cpu->replay_n == SOFT_REPLAY_MAX)
		cpu->replay_n = 0;
	cpu->replay[cpu->replay_n++] = (struct soft_replay){ .kind = kind,
		.bytes = (uint8_t)n, .write = write, .addr = addr,
		.data = data };
	cpu->replay_pos = cpu->replay_n;
}

void
soft_replay_answer(struct soft_cpu *cpu, const struct vmm_exit *ex)
{
	struct vmm_exit *e = &cpu->exit;

	cpu->replay_pos = 0;
	if (!cpu->exit_pending)
		return;
	cpu->exit_pending = false;
	cpu->replay_armed = true;
	/* Registers were set meanwhile: the instruction is not the one. */
	if (ex->reason != e->reason || e->rip != cpu->rip) {
		cpu->replay_armed = false;
		cpu->replay_n = 0;
		return;
	}
	switch (e->reason) {
	case VMM_EXIT_IO:
		replay_note(cpu, VMM_EXIT_IO, e->u.io.port, e->u.io.bytes,
		    !e->u.io.in, ex->u.io.data);
		break;
	case VMM_EXIT_MMIO:
		replay_note(cpu, VMM_EXIT_MMIO, e->u.mmio.gpa, e->u.mmio.bytes,
		    e->u.mmio.write, ex->u.mmio.data);
		break;
	default:
		break;
	}
	cpu->replay_pos = 0;
}

/* A device was touched: it may have an interrupt for us. */
static void
replay_touched(struct soft_cpu *cpu)
{
	cpu->event_check = true;
	/* An instruction of memory does not end with SOFT_FLUSH. */
	if ((cpu->rflags_sys & SOFT_FL_IF) != 0)
		soft_kick(cpu);
}

int
soft_mmio(struct soft_cpu *cpu, gpa_t gpa, unsigned n, bool write,
    uint64_t *datap)
{
	int error;

	if (replay_find(cpu, VMM_EXIT_MMIO, gpa, n, write, datap))
		return SOFT_OK;
	cpu->st.mmio++;
	soft_leave(cpu);
	error = cpu->vm->cb->mmio(cpu->vm->arg, cpu->id, gpa, n, write, datap);
	soft_enter(cpu);
	replay_touched(cpu);
	if (error == 0) {
		replay_note(cpu, VMM_EXIT_MMIO, gpa, n, write, *datap);
		return SOFT_OK;
	}
	cpu->exit.u.mmio.gpa = gpa;
	cpu->exit.u.mmio.bytes = (uint8_t)n;
	cpu->exit.u.mmio.write = write;
	cpu->exit.u.mmio.data = write ? *datap : 0;
	return soft_exit(cpu, VMM_EXIT_MMIO);
}

int
soft_pio(struct soft_cpu *cpu, uint16_t port, unsigned n, bool in,
    uint32_t *datap)
{
	uint64_t data = *datap;
	int error;

	if (replay_find(cpu, VMM_EXIT_IO, port, n, !in, &data)) {
		*datap = (uint32_t)data;
		return SOFT_OK;
	}
	cpu->st.pio++;
	soft_leave(cpu);
	error = cpu->vm->cb->pio(cpu->vm->arg, cpu->id, port, n, in, datap);
	soft_enter(cpu);
	replay_touched(cpu);
	if (error == 0) {
		replay_note(cpu, VMM_EXIT_IO, port, n, !in, *datap);
		return SOFT_OK;
	}
	cpu->exit.u.io.port = port;
	cpu->exit.u.io.bytes = (uint8_t)n;
	cpu->exit.u.io.in = in;
	cpu->exit.u.io.data = in ? 0 : *datap;
	return soft_exit(cpu, VMM_EXIT_IO);
}
