/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instruction decoding: bytes and mode in, struct soft_insn out.
 *
 * Zydis names the instruction and its operands; what this file adds is what
 * the engine needs to run it: who executes it (class), what it touches
 * (register, flag and unit masks), and which of its registers are wired into
 * the opcode and cannot be renamed.
 *
 * The set of instructions that exist for the guest is an allow-list of Zydis'
 * ISA sets, isa_ok[].  What is not in it raises #UD even where the host has
 * it (AVX-512, TSX, CET...), as our CPUID says.  An instruction in the list
 * that the host lacks raises #UD by itself when it runs natively, but for
 * integer instructions, which the translator takes to be there.
 *
 * Every mask errs to the safe side: a register that is only partly or perhaps
 * written counts as read too; a flag counts as written only where its value
 * after the instruction never depends on its value before.
 */
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "engine/soft/soft_int.h"

enum decode_mode { DECODE_64, DECODE_32, DECODE_16, DECODE_MODES };

static ZydisDecoder decode_zydis[DECODE_MODES];
/* C: constant once initialised */
static bool decode_amd;
static bool decode_bmi1, decode_bmi2;
static pthread_once_t decode_once = PTHREAD_ONCE_INIT;

#define M(x) [ZYDIS_MNEMONIC_##x]
#define CLASS_SET 0x80 /* an entry is there (SOFT_C_UD is 0) */
#define C(x) (CLASS_SET | SOFT_C_##x)

/* Instructions whose class does not follow from their ISA set and operands. */
static const uint8_t decode_class[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	M(JMP) = C(JMP),
	M(CALL) = C(CALL),
	M(RET) = C(RET),
	M(JB) = C(JCC), M(JBE) = C(JCC), M(JL) = C(JCC), M(JLE) = C(JCC),
	M(JNB) = C(JCC), M(JNBE) = C(JCC), M(JNL) = C(JCC), M(JNLE) = C(JCC),
	M(JNO) = C(JCC), M(JNP) = C(JCC), M(JNS) = C(JCC), M(JNZ) = C(JCC),
	M(JO) = C(JCC), M(JP) = C(JCC), M(JS) = C(JCC), M(JZ) = C(JCC),
	M(LOOP) = C(LOOP), M(LOOPE) = C(LOOP), M(LOOPNE) = C(LOOP),
	M(JCXZ) = C(LOOP), M(JECXZ) = C(LOOP), M(JRCXZ) = C(LOOP),

	M(PUSH) = C(STACK), M(POP) = C(STACK),
	M(PUSHA) = C(STACK), M(PUSHAD) = C(STACK),
	M(POPA) = C(STACK), M(POPAD) = C(STACK),
	M(PUSHF) = C(STACK), M(PUSHFD) = C(STACK), M(PUSHFQ) = C(STACK),
	M(POPF) = C(STACK), M(POPFD) = C(STACK), M(POPFQ) = C(STACK),
	M(ENTER) = C(STACK), M(LEAVE) = C(STACK),

	/* MOVSD and CMPSD are vector instructions too: by category. */
	M(MOVSB) = C(STRING), M(MOVSW) = C(STRING), M(MOVSQ) = C(STRING),
	M(CMPSB) = C(STRING), M(CMPSW) = C(STRING), M(CMPSQ) = C(STRING),
	M(STOSB) = C(STRING), M(STOSW) = C(STRING), M(STOSD) = C(STRING),
	M(STOSQ) = C(STRING),
	M(LODSB) = C(STRING), M(LODSW) = C(STRING), M(LODSD) = C(STRING),
	M(LODSQ) = C(STRING),
	M(SCASB) = C(STRING), M(SCASW) = C(STRING), M(SCASD) = C(STRING),
	M(SCASQ) = C(STRING),
	M(INSB) = C(STRING), M(INSW) = C(STRING), M(INSD) = C(STRING),
	M(OUTSB) = C(STRING), M(OUTSW) = C(STRING), M(OUTSD) = C(STRING),

	M(FXSAVE) = C(FPUMEM), M(FXSAVE64) = C(FPUMEM),
	M(FXRSTOR) = C(FPUMEM), M(FXRSTOR64) = C(FPUMEM),
	M(XSAVE) = C(FPUMEM), M(XSAVE64) = C(FPUMEM),
	M(XSAVEC) = C(FPUMEM), M(XSAVEC64) = C(FPUMEM),
	M(XSAVEOPT) = C(FPUMEM), M(XSAVEOPT64) = C(FPUMEM),
	M(XSAVES) = C(FPUMEM), M(XSAVES64) = C(FPUMEM),
	M(XRSTOR) = C(FPUMEM), M(XRSTOR64) = C(FPUMEM),
	M(XRSTORS) = C(FPUMEM), M(XRSTORS64) = C(FPUMEM),
	M(FNSAVE) = C(FPUMEM), M(FRSTOR) = C(FPUMEM),
	M(FNSTENV) = C(FPUMEM), M(FLDENV) = C(FPUMEM),

	M(VGATHERDPD) = C(GATHER), M(VGATHERDPS) = C(GATHER),
	M(VGATHERQPD) = C(GATHER), M(VGATHERQPS) = C(GATHER),
	M(VPGATHERDD) = C(GATHER), M(VPGATHERDQ) = C(GATHER),
	M(VPGATHERQD) = C(GATHER), M(VPGATHERQQ) = C(GATHER),
	M(MASKMOVQ) = C(GATHER), M(MASKMOVDQU) = C(GATHER),
	M(VMASKMOVDQU) = C(GATHER),
	M(VMASKMOVPD) = C(GATHER), M(VMASKMOVPS) = C(GATHER),
	M(VPMASKMOVD) = C(GATHER), M(VPMASKMOVQ) = C(GATHER),
	M(XLAT) = C(GATHER), M(BOUND) = C(GATHER),

	M(PREFETCH) = C(NATIVE), M(PREFETCHW) = C(NATIVE),
	M(PREFETCHWT1) = C(NATIVE),

	/* 32-bit mode only, so the host cannot run them for us. */
	M(AAA) = C(SYS), M(AAD) = C(SYS), M(AAM) = C(SYS), M(AAS) = C(SYS),
	M(DAA) = C(SYS), M(DAS) = C(SYS), M(SALC) = C(SYS),
	M(ARPL) = C(SYS),

	M(IN) = C(SYS), M(OUT) = C(SYS),
	M(INT) = C(SYS), M(INT1) = C(SYS), M(INT3) = C(SYS), M(INTO) = C(SYS),
	M(IRET) = C(SYS), M(IRETD) = C(SYS), M(IRETQ) = C(SYS),
	M(SYSCALL) = C(SYS), M(SYSRET) = C(SYS),
	M(SYSENTER) = C(SYS), M(SYSEXIT) = C(SYS),
	M(CLI) = C(SYS), M(STI) = C(SYS), M(CLD) = C(SYS), M(STD) = C(SYS),
	M(CLAC) = C(SYS), M(STAC) = C(SYS), M(CLTS) = C(SYS),
	M(HLT) = C(SYS), M(MONITOR) = C(SYS), M(MWAIT) = C(SYS),
	M(CPUID) = C(SYS), M(RDTSC) = C(SYS), M(RDTSCP) = C(SYS),
	M(RDPMC) = C(SYS), M(RDPID) = C(SYS),
	M(RDMSR) = C(SYS), M(WRMSR) = C(SYS),
	M(RDFSBASE) = C(SYS), M(RDGSBASE) = C(SYS),
	M(WRFSBASE) = C(SYS), M(WRGSBASE) = C(SYS), M(SWAPGS) = C(SYS),
	M(XGETBV) = C(SYS), M(XSETBV) = C(SYS),
	M(INVD) = C(SYS), M(WBINVD) = C(SYS), M(INVLPG) = C(SYS),
	M(INVPCID) = C(SYS),
	M(SGDT) = C(SYS), M(SIDT) = C(SYS), M(SLDT) = C(SYS), M(STR) = C(SYS),
	M(LGDT) = C(SYS), M(LIDT) = C(SYS), M(LLDT) = C(SYS), M(LTR) = C(SYS),
	M(SMSW) = C(SYS), M(LMSW) = C(SYS),
	M(LAR) = C(SYS), M(LSL) = C(SYS), M(VERR) = C(SYS), M(VERW) = C(SYS),
	M(LDS) = C(SYS), M(LES) = C(SYS), M(LFS) = C(SYS), M(LGS) = C(SYS),
	M(LSS) = C(SYS),

	M(UD0) = C(UD), M(UD1) = C(UD), M(UD2) = C(UD), M(RSM) = C(UD),
	M(GETSEC) = C(UD), M(MONITORX) = C(UD), M(MWAITX) = C(UD),
};
#undef C
#undef M

#define I(x) [ZYDIS_ISA_SET_##x] = true
static const bool decode_isa_ok[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	I(I86), I(I186), I(I286REAL), I(I286PROTECTED), I(I386), I(I486),
	I(I486REAL), I(PENTIUMREAL), I(PENTIUMMMX), I(PPRO), I(CMOV),
	I(LAHF), I(LONGMODE), I(CMPXCHG16B), I(FAT_NOP), I(PAUSE), I(AMD),
	I(X87), I(FCMOV), I(FXSAVE), I(FXSAVE64),
	I(SSE), I(SSE2), I(SSE2MMX), I(SSE3), I(SSE3X87), I(SSE4), I(SSE42),
	I(SSE4A), I(SSEMXCSR), I(SSE_PREFETCH), I(SSSE3), I(SSSE3MMX),
	I(PREFETCH_NOP), I(PREFETCHWT1), I(CLFSH), I(CLFLUSHOPT), I(CLWB),
	I(AES), I(PCLMULQDQ), I(SHA), I(GFNI),
	I(AVX), I(AVX2), I(AVX2GATHER), I(AVXAES), I(AVX_GFNI), I(AVX_VNNI),
	I(VAES), I(VPCLMULQDQ), I(F16C), I(FMA),
	I(BMI1), I(BMI2), I(LZCNT), I(MOVBE), I(POPCNT), I(ADOX_ADCX),
	I(RDRAND), I(RDSEED), I(RDTSCP), I(RDPID), I(RDPMC), I(RDWRFSGS),
	I(INVPCID), I(SMAP), I(MONITOR),
	I(XSAVE), I(XSAVEC), I(XSAVEOPT), I(XSAVES),
};
#undef I

static void
decode_init(void)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth stack;
	} modes[DECODE_MODES] = {
		{ ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
		{ ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		{ ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
	};
	unsigned a, b, c, d;

	/* AMD takes an operand-size prefix on 64-bit near branches, Intel
	 * ignores it.  The guest sees the host's vendor. */
	decode_amd = __get_cpuid(0, &a, &b, &c, &d) != 0 &&
	    (b == signature_AMD_ebx || b == 0x6f677948 /* Hygo(nGenuine) */);
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
		decode_bmi1 = (b & bit_BMI) != 0;
		decode_bmi2 = (b & bit_BMI2) != 0;
	}
	for (int i = 0; i < DECODE_MODES; i++) {
		ZydisDecoder *z = &decode_zydis[i];
		ZyanStatus st;

		st = ZydisDecoderInit(z, modes[i].mode, modes[i].stack);
		KASSERT(ZYAN_SUCCESS(st), "zydis: %x", st);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CLDEMOTE,
		    ZYAN_FALSE);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_WBNOINVD,
		    ZYAN_FALSE);
		ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_AMD_BRANCHES,
		    decode_amd ? ZYAN_TRUE : ZYAN_FALSE);
	}
}

/* => number of the general register in the instruction encoding, or -1 */
int
soft_gpr_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return (int)(r - ZYDIS_REGISTER_RAX);
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return (int)(r - ZYDIS_REGISTER_EAX);
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return (int)(r - ZYDIS_REGISTER_AX);
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
		return (int)(r - ZYDIS_REGISTER_AL);
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
		return (int)(r - ZYDIS_REGISTER_AH);
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
		return (int)(r - ZYDIS_REGISTER_SPL) + 4;
	return -1;
}

/*
 * Opcodes with the accumulator wired in that soft_recode() can turn into a
 * form with a ModRM byte, so that the register may be renamed after all.
 */
static bool
decode_has_modrm_form(const ZydisDecodedInstruction *zi)
{
	unsigned op = zi->opcode;

	if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	    zi->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return false;
	return (op < 0x40 && (op & 6) == 4) || /* ALU acc, imm */
	    (op >= 0x90 && op <= 0x97) ||      /* XCHG */
	    (op >= 0xa0 && op <= 0xa3) ||      /* MOV moffs */
	    op == 0xa8 || op == 0xa9;	       /* TEST acc, imm */
}

static void
decode_reg(struct soft_insn *in, const ZydisDecodedOperand *op)
{
	ZydisRegister r = op->reg.value;
	int n = soft_gpr_number(r);
	bool legacy = in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;

	if (n >= 0) {
		uint16_t bit = (uint16_t)(1u << n);

		if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0)
			in->gpr_read |= bit;
		if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) {
			in->gpr_write |= bit;
			if (op->size < 32 || (op->actions &
			    ZYDIS_OPERAND_ACTION_CONDWRITE) != 0)
				in->gpr_read |= bit;
		}
		if ((op->encoding == ZYDIS_OPERAND_ENCODING_NONE &&
		    !decode_has_modrm_form(&in->zi)) ||
		    (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH))
			in->gpr_fixed |= bit;
		return;
	}
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
		in->fpu = true;
		break;
	case ZYDIS_REGCLASS_XMM:
		if (legacy)
			in->sse = true;
		else
			in->avx = true;
		break;
	case ZYDIS_REGCLASS_YMM:
		in->avx = true;
		break;
	case ZYDIS_REGCLASS_SEGMENT:
	case ZYDIS_REGCLASS_CONTROL:
	case ZYDIS_REGCLASS_DEBUG:
	case ZYDIS_REGCLASS_TEST:
		/* Near branches and string instructions have none. */
		if (op->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			in->cls = SOFT_C_SYS;
		break;
	default:
		if (r == ZYDIS_REGISTER_MXCSR) {
			if (legacy)
				in->sse = true;
			else
				in->avx = true;
		}
		break;
	}
}

static void
decode_mem(struct soft_insn *in, unsigned i)
{
	ZydisDecodedOperand *op = &in->op[i];
	uint16_t addr = 0;
	int n;

	/* SIB without a base: with 32-bit addresses and REX.B, Zydis 4.0 takes
	 * it for R13D and loses the displacement. */
	if (op->mem.base == ZYDIS_REGISTER_R13D && in->zi.raw.modrm.mod == 0 &&
	    in->zi.raw.modrm.rm == 4) {
		op->mem.base = ZYDIS_REGISTER_NONE;
		op->mem.disp.has_displacement = ZYAN_TRUE;
		op->mem.disp.value = in->zi.raw.disp.value;
	}

	n = soft_gpr_number(op->mem.base);
	if (n >= 0)
		addr |= (uint16_t)(1u << n);
	n = soft_gpr_number(op->mem.index);
	if (n >= 0)
		addr |= (uint16_t)(1u << n);
	in->gpr_read |= addr;
	/* The operand of PUSH RAX's own store and the like are not ours. */
	if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE)
		return;
	in->memop = (int8_t)i;
	in->gpr_addr = addr;
	in->mem_bytes = op->size / 8;
	in->mem_seg = op->mem.segment == ZYDIS_REGISTER_NONE ? VMM_SEG_DS :
	    (uint8_t)(op->mem.segment - ZYDIS_REGISTER_ES);
	if (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
		return;
	if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0)
		in->mem_access |= VMM_PROT_READ;
	if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0)
		in->mem_access |= VMM_PROT_WRITE;
}

/* Shifts and rotates: how many places, or -1 if CL says. */
static int
decode_shift_count(const struct soft_insn *in)
{
	const ZydisDecodedOperand *op;

	op = &in->op[in->zi.operand_count_visible - 1];
	if (op->type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return -1;
	return (int)(op->imm.value.u & (in->opsize == 8 ? 63 : 31));
}

static void
decode_flags(struct soft_insn *in)
{
	const ZydisAccessedFlags *fl = in->zi.cpu_flags;
	uint32_t certain;
	int count;

	in->fl_read = fl->tested & SOFT_FL_ARITH;
	in->fl_undef = fl->undefined & SOFT_FL_ARITH;
	certain = (fl->modified | fl->set_0 | fl->set_1) & SOFT_FL_ARITH;
	/*
	 * Undefined flags may be left as they were (MUL, DIV, BT, rotates on
	 * AMD), so they are not "written".  Of these instructions it is known
	 * that they compute them on every processor, and they are frequent.
	 */
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_ANDN:
	case ZYDIS_MNEMONIC_BLSI:
	case ZYDIS_MNEMONIC_BLSR:
	case ZYDIS_MNEMONIC_BLSMSK:
	case ZYDIS_MNEMONIC_BZHI:
		certain |= in->fl_undef;
		break;
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		certain |= in->fl_undef;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
		count = decode_shift_count(in);
		if (count < 0)
			in->fl_cond_write = true;
		/* A count of zero writes none; RCL and RCR may come round. */
		if (count <= 0 ||
		    ((in->zi.mnemonic == ZYDIS_MNEMONIC_RCL ||
		    in->zi.mnemonic == ZYDIS_MNEMONIC_RCR) &&
		    in->opsize <= 2 && count % (in->opsize * 8 + 1) == 0))
			certain = 0;
		break;
	default:
		break;
	}
	if (in->cls == SOFT_C_STRING && (in->rep || in->repne)) {
		in->fl_cond_write = certain != 0;
		certain = 0;
	}
	in->fl_write = certain;
}

/* What Zydis' tables say too coarsely. */
static void
decode_fixup(struct soft_insn *in)
{
	int n;

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
		in->mem_access = 0;
		/* PREFETCH of a register: undefined for AMD. */
		if (decode_amd && in->zi.opcode == 0x0d &&
		    in->zi.opcode_map == ZYDIS_OPCODE_MAP_0F && in->memop < 0)
			in->cls = SOFT_C_UD;
		break;
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHWT1:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
		in->mem_access = 0;
		break;
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		/* Checked like a load of one byte. */
		in->mem_access = VMM_PROT_READ;
		in->mem_bytes = 1;
		break;
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
		/* A zero source leaves the destination. */
		n = soft_gpr_number(in->op[0].reg.value);
		in->gpr_read |= (uint16_t)(1u << n);
		break;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
		/* The bit number reaches beyond the memory operand. */
		if (in->memop >= 0 && in->cls == SOFT_C_NATIVE &&
		    in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
			in->cls = SOFT_C_GATHER;
		break;
	/* No vector register, and Zydis forgets MXCSR. */
	case ZYDIS_MNEMONIC_CVTSD2SI:
	case ZYDIS_MNEMONIC_CVTSS2SI:
	case ZYDIS_MNEMONIC_CVTTSD2SI:
	case ZYDIS_MNEMONIC_CVTTSS2SI:
		in->sse = true;
		break;
	case ZYDIS_MNEMONIC_VCVTSD2SI:
	case ZYDIS_MNEMONIC_VCVTSS2SI:
	case ZYDIS_MNEMONIC_VCVTTSD2SI:
	case ZYDIS_MNEMONIC_VCVTTSS2SI:
		in->avx = true;
		break;
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VPINSRD:
		/* VEX.W is ignored outside 64-bit mode, but not of these. */
		if (in->zi.raw.vex.W &&
		    in->zi.machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
			in->cls = SOFT_C_UD;
		break;
	case ZYDIS_MNEMONIC_VZEROALL:
	case ZYDIS_MNEMONIC_VZEROUPPER:
		in->avx = true;
		/* Run natively it would clear registers 8 to 15 too. */
		if (in->zi.machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
			in->cls = SOFT_C_GATHER;
		break;
	default:
		break;
	}
	switch (in->cls) {
	case SOFT_C_JMP:
	case SOFT_C_JCC:
	case SOFT_C_CALL:
	case SOFT_C_RET:
	case SOFT_C_LOOP:
		/* Zydis knows it of some forms only. */
		if (decode_amd &&
		    in->zi.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 &&
		    (in->zi.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0 &&
		    !in->zi.raw.rex.W) {
			in->opsize = 2;
			if (in->memop >= 0)
				in->mem_bytes = 2;
		}
		break;
	default:
		break;
	}
	switch (in->zi.meta.isa_ext) {
	case ZYDIS_ISA_EXT_X87:
	case ZYDIS_ISA_EXT_MMX:
		in->fpu = true;
		break;
	default:
		break;
	}
	if (in->cls == SOFT_C_FPUMEM)
		in->fpu = true;
}

static uint8_t
decode_classify(const ZydisDecodedInstruction *zi)
{
	uint8_t c;

	if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	    zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return SOFT_C_UD;
	/* Far JMP, CALL and RET have the names of the near ones. */
	if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return SOFT_C_SYS;
	c = decode_class[zi->mnemonic];
	if (c != 0)
		return c & ~CLASS_SET;
	if (zi->meta.category == ZYDIS_CATEGORY_STRINGOP)
		return SOFT_C_STRING;
	/* The translator relies on integer instructions to exist. */
	if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX &&
	    ((zi->meta.isa_set == ZYDIS_ISA_SET_BMI1 && !decode_bmi1) ||
	    (zi->meta.isa_set == ZYDIS_ISA_SET_BMI2 && !decode_bmi2)))
		return SOFT_C_UD;
	return decode_isa_ok[zi->meta.isa_set] ? SOFT_C_NATIVE : SOFT_C_UD;
}

/*
 * F3 90 with REX.B is not PAUSE but XCHG with R8: decode without the F3.  The
 * offsets in zi.raw are then those of the shorter instruction; nothing in it
 * has any.
 */
static void
decode_xchg_r8(const uint8_t *bytes, unsigned len, struct soft_insn *in)
{
	uint8_t b[ZYDIS_MAX_INSTRUCTION_LENGTH];
	unsigned n = 0;
	ZyanStatus st;

	for (unsigned i = 0; i < len; i++)
		if (bytes[i] != 0xf3)
			b[n++] = bytes[i];
	st = ZydisDecoderDecodeFull(&decode_zydis[DECODE_64], b, n, &in->zi,
	    in->op);
	KASSERT(ZYAN_SUCCESS(st), "zydis: %x", st);
	in->zi.length = (ZyanU8)len;
}

int
soft_decode(const uint8_t *bytes, size_t avail, uint32_t mode_key,
    struct soft_insn *in)
{
	ZydisDecodedInstruction *zi = &in->zi;
	ZyanStatus st;
	int mode;

	pthread_once(&decode_once, decode_init);
	mode = (mode_key & SOFT_KEY_L) != 0 ? DECODE_64 :
	    (mode_key & SOFT_KEY_D) != 0 ? DECODE_32 : DECODE_16;

	/* Zydis fills zi and as many of op as there are. */
	memset((char *)in + offsetof(struct soft_insn, bytes), 0,
	    sizeof(*in) - offsetof(struct soft_insn, bytes));
	in->memop = -1;
	if (avail > ZYDIS_MAX_INSTRUCTION_LENGTH)
		avail = ZYDIS_MAX_INSTRUCTION_LENGTH;
	st = ZydisDecoderDecodeFull(&decode_zydis[mode], bytes, avail, zi,
	    in->op);
	if (!ZYAN_SUCCESS(st)) {
		in->cls = SOFT_C_UD;
		if (st == ZYDIS_STATUS_NO_MORE_DATA &&
		    avail < ZYDIS_MAX_INSTRUCTION_LENGTH)
			return -EFAULT;
		/* len 0 asks for #GP: the length limit comes before what
		 * the bytes might have meant. */
		in->len = st == ZYDIS_STATUS_NO_MORE_DATA ||
		    st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? 0 : 1;
		return 0;
	}
	if (zi->mnemonic == ZYDIS_MNEMONIC_PAUSE && zi->raw.rex.B)
		decode_xchg_r8(bytes, zi->length, in);
	in->len = zi->length;
	for (unsigned i = 0; i < zi->length; i++)
		in->bytes[i] = bytes[i];
	in->opsize = zi->operand_width / 8;
	in->addrsize = zi->address_width / 8;
	in->lock = (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
	in->rep = (zi->attributes &
	    (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) != 0;
	in->repne = (zi->attributes & ZYDIS_ATTRIB_HAS_REPNE) != 0;
	in->cls = decode_classify(zi);
	if (in->cls == SOFT_C_UD)
		return 0;
	for (unsigned i = 0; i < zi->operand_count; i++) {
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			decode_reg(in, &in->op[i]);
		else if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			decode_mem(in, i);
	}
	decode_fixup(in);
	decode_flags(in);
	return 0;
}
