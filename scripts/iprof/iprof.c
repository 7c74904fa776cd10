// SPDX-License-Identifier: GPL-2.0-only
/*
 * A TCG plugin of QEMU that counts the guest's instructions by translation block,
 * within sections that a program of the guest marks.
 *
 * The program has 16 functions at a fixed address, 64 bytes apart.  A call of
 * function n (0 to 14) begins section n, and one of function 15 ends it.  Each
 * block is accounted to the phase of the last function of the file "phases" that
 * ran, so that what such a function calls is of its phase.  Lines of that file
 * are START END PHASE, the addresses in hexadecimal.
 *
 *   gcc -O2 -shared -fPIC -o iprof.so iprof.c
 *   qemu-system-x86_64 -icount shift=0 -smp 1 \
 *       -plugin ./iprof.so,mark=ADDRESS,phases=FILE,out=FILE ...
 *
 * The output has a line "SECTION PHASE ADDRESS EXECUTIONS INSTRUCTIONS" for each
 * block.
 *
 * Distributions do not package qemu-plugin.h: the few functions that it takes are
 * the same since the first version of that interface.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION	1
#endif

#define EXPORT		__attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_info;
struct qemu_plugin_tb;

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
		void (*cb)(unsigned int cpu, void *data), int flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info,
			       int argc, char **argv);

#define NUM_MARKS	16
#define MARK_SIZE	64
#define MAX_PHASES	32
#define MAX_RANGES	4096
#define HASH_BITS	17

struct range {
	uint64_t start, end;
	int phase;
};

struct count {
	uint64_t executions, insns;
};

/* A translation block, and its counts if a section was ever in it. */
struct block {
	struct block *next, *all;
	uint64_t addr;
	size_t insns;
	int mark, phase;
	struct count (*counts)[MAX_PHASES];
};

static struct block *table[1 << HASH_BITS], *blocks;
static struct range ranges[MAX_RANGES];
static unsigned int num_ranges;
static uint64_t first_mark;
static int section = -1, phase;
static FILE *out;

static void executed(unsigned int cpu, void *data)
{
	struct block *b = data;

	if (b->mark >= 0) {
		section = b->mark == NUM_MARKS - 1 ? -1 : b->mark;
		phase = 0;
		return;
	}
	if (section < 0)
		return;
	if (!b->counts)
		b->counts = calloc(NUM_MARKS, sizeof(*b->counts));
	if (b->phase >= 0)
		phase = b->phase;
	b->counts[section][phase].executions++;
	b->counts[section][phase].insns += b->insns;
}

static int find_mark(uint64_t addr)
{
	uint64_t offset = addr - first_mark;

	if (offset >= NUM_MARKS * MARK_SIZE || offset % MARK_SIZE)
		return -1;
	return offset / MARK_SIZE;
}

static int find_phase(uint64_t addr)
{
	unsigned int i;

	for (i = 0; i < num_ranges; i++)
		if (addr >= ranges[i].start && addr < ranges[i].end)
			return ranges[i].phase;
	return -1;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t addr = qemu_plugin_tb_vaddr(tb);
	size_t insns = qemu_plugin_tb_n_insns(tb);
	size_t hash = (addr * 0x9e3779b97f4a7c15ull) >> (64 - HASH_BITS);
	struct block *b;

	for (b = table[hash]; b; b = b->next)
		if (b->addr == addr && b->insns == insns)
			break;
	if (!b) {
		b = calloc(1, sizeof(*b));
		b->addr = addr;
		b->insns = insns;
		b->mark = find_mark(addr);
		b->phase = find_phase(addr);
		b->next = table[hash];
		b->all = blocks;
		table[hash] = b;
		blocks = b;
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);
}

static void finish(qemu_plugin_id_t id, void *data)
{
	const struct block *b;
	int s, p;

	for (b = blocks; b; b = b->all) {
		for (s = 0; b->counts && s < NUM_MARKS; s++) {
			for (p = 0; p < MAX_PHASES; p++) {
				const struct count *c = &b->counts[s][p];

				if (c->insns)
					fprintf(out, "%d %d %" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
						s, p, b->addr, c->executions, c->insns);
			}
		}
	}
	fclose(out);
}

static bool read_phases(const char *name)
{
	FILE *file = fopen(name, "r");
	struct range *r = ranges;

	if (!file)
		return false;
	while (r < ranges + MAX_RANGES &&
	       fscanf(file, "%" SCNx64 " %" SCNx64 " %d", &r->start, &r->end, &r->phase) == 3) {
		if (r->phase < 0 || r->phase >= MAX_PHASES)
			return false;
		r++;
	}
	num_ranges = r - ranges;
	return !fclose(file);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info,
			       int argc, char **argv)
{
	int i;

	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "mark=", 5))
			first_mark = strtoull(argv[i] + 5, NULL, 16);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
		else if (!strncmp(argv[i], "phases=", 7) && !read_phases(argv[i] + 7))
			return 1;
	}
	if (!first_mark || !out) {
		fprintf(stderr, "iprof: arguments are mark=ADDRESS, out=FILE, phases=FILE\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, finish, NULL);
	return 0;
}
