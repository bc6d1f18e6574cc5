/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core's counters, listed once: X(field, name, what it counts).
 * vmmctl(1) documents the same names; tests/style/stats.sh compares.
 */

#ifndef VCPU_STATS
/* Of one vCPU. */
#define VCPU_STATS(X)                                                       \
	X(runs, "vcpu.runs", "entries into the engine")                     \
	X(exits_user, "vcpu.exits.user", "exits handed to the program")     \
	X(exits_intr, "vcpu.exits.intr", "exits because of a kick")         \
	X(exits_hlt, "vcpu.exits.hlt", "HLT instructions")                  \
	X(exits_io, "vcpu.exits.io", "port accesses handed to the program") \
	X(exits_mmio, "vcpu.exits.mmio",                                    \
	    "memory accesses handed to the program")                        \
	X(halted_ns, "vcpu.halted_ns", "nanoseconds asleep in HLT")         \
	X(wakeups, "vcpu.wakeups", "ends of a sleep")                       \
	X(polls, "vcpu.polls", "HLTs that ended before the thread slept")   \
	X(notifies, "vcpu.notifies", "interrupts announced by the platform") \
	X(kicks, "vcpu.kicks", "kicks by the nested page tables")           \
	X(nmis, "vcpu.nmis", "NMIs delivered")                              \
	X(inits, "vcpu.inits", "INIT signals taken")                        \
	X(sipis, "vcpu.sipis", "start-up IPIs taken")                       \
	X(freezes, "vcpu.freezes", "stops for a map change or a look inside") \
	X(nested_faults, "vcpu.nested_faults", "nested page faults")        \
	X(nested_fails, "vcpu.nested_fails",                                \
	    "nested faults that found no memory or no right to it")         \
	X(pio, "vcpu.pio", "port accesses")                                 \
	X(mmio, "vcpu.mmio", "accesses to device memory")                   \
	X(rdmsr, "vcpu.rdmsr", "platform MSR reads")                        \
	X(wrmsr, "vcpu.wrmsr", "platform MSR writes")                       \
	X(interrupts, "vcpu.interrupts", "external interrupts delivered")
#endif

#ifndef MACHINE_STATS
/* Of the machine. */
#define MACHINE_STATS(X)                                                     \
	X(holds, "hold.count", "pages held for access from outside the guest") \
	X(holds_now, "hold.now", "pages held at this moment")                \
	X(hold_fails, "hold.fails", "holds refused")                         \
	X(map_changes, "memseg.changes", "maps inserted and removed")        \
	X(freeze_ns, "freeze.ns", "nanoseconds spent waiting for vCPUs to stop")
#endif

#ifndef VM_STATS
/* Guest memory's, from vmspace_stats(). */
#define VM_STATS(X)                                                         \
	X(resident, "vm.resident", "resident pages")                        \
	X(wired, "vm.wired", "pages that cannot be paged out")              \
	X(held, "vm.held", "pages held")                                    \
	X(swapped, "vm.swapped", "pages in swap")                           \
	X(compressed, "vm.compressed", "pages kept compressed")             \
	X(compressed_bytes, "vm.compressed.bytes",                          \
	    "bytes of compressed pages, of the process")                    \
	X(pool, "vm.compressed.pool",                                       \
	    "pages that compressed pages take, of the process; part of the limit") \
	X(zero, "vm.zero", "pages known to be zero without storage")        \
	X(shared, "vm.shared", "pages shared copy on write")                \
	X(superpages, "vm.superpages", "large mappings")                    \
	X(faults_zero, "vm.faults.zero", "faults filled with zeros")        \
	X(faults_swap, "vm.faults.swap", "faults read from swap")           \
	X(faults_file, "vm.faults.file", "faults read from a file")         \
	X(faults_cow, "vm.faults.cow", "faults that copied a page")         \
	X(faults_ad, "vm.faults.ad", "faults that set emulated A/D bits")   \
	X(faults_prot, "vm.faults.prot", "faults that raised a protection") \
	X(faults_fail, "vm.faults.fail", "faults refused")                  \
	X(promotions, "pmap.promotions", "promotions to a large mapping")   \
	X(demotions, "pmap.demotions", "demotions of a large mapping")      \
	X(lost, "vm.lost", "pages of device memory whose file is too short") \
	X(collapses, "vm.hugepages", "2 MB pages got from the host")        \
	X(collapse_fails, "vm.hugepages.fails", "2 MB pages not got")       \
	X(invalidations, "pmap.invalidations", "invalidations")             \
	X(kicks, "pmap.kicks", "vCPUs kicked by invalidations")             \
	X(pt_pages, "pmap.pt_pages", "pages of nested page tables")         \
	X(pageouts, "vm.pageouts", "pages written to swap, or compressed")  \
	X(pageins, "vm.pageins", "pages read from swap, read-ahead included") \
	X(spills, "vm.compressed.spills",                                   \
	    "compressed pages that went on to disk")                        \
	X(reserve_runs, "vm.reserve_runs",                                  \
	    "times that the page-out thread paged out ahead of need")       \
	X(refaults, "vm.refaults",                                          \
	    "pages that came back soon after they were paged out")          \
	X(swap_errors, "vm.swap_errors",                                    \
	    "writes to swap that failed or found no room")                  \
	X(stalls, "vm.stalls",                                              \
	    "faults put off: no room within the limit, or contents unreadable")
#endif

#ifndef STATS_GAUGES
/* Those that say how much there is now; all others only grow. */
#define STATS_GAUGES                                                        \
	"vm.resident", "vm.wired", "vm.held", "vm.swapped", "vm.compressed", \
	    "vm.compressed.bytes", "vm.compressed.pool",                    \
	    "vm.zero", "vm.shared", "vm.superpages", "pmap.pt_pages",       \
	    "hold.now"
#endif
