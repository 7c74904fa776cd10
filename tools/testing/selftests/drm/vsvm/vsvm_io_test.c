// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of access to the memory of a process by other means than its CPUs and
 * devices: system calls, direct I/O, pipes, other processes and debuggers.  All
 * of them work on memory that is on the device, and beside a job.  And of the file
 * systems that jobs have to wait for.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define NPAGES		16
#define ROUNDS		12

#define ZRAM_CONTROL	"/sys/class/zram-control/"

FIXTURE(io)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	/* Size of a write: by the device, and by others after it. */
	size_t half;
	char *mem;
	/* In RAM, and not anonymous, so that it stays there. */
	char *copy;
	int zram;
	int disk;
};

FIXTURE_VARIANT(io)
{
	/* Copies to the process's memory from a buffer in RAM, or back. */
	int (*io)(struct _test_data_io *self, char *mem, char *buffer,
		  size_t size, bool write);
	bool disk;
};

static int result(ssize_t n, size_t size)
{
	if (n < 0)
		return -errno;
	return n == (ssize_t)size ? 0 : -EIO;
}

/*
 * The ordinary way of a system call, by a pipe; or with vmsplice(), which puts
 * the pages themselves into the pipe, but only copies them out.
 */
static int through_pipe(char *to, char *from, size_t size, bool splice_in,
			bool splice_out)
{
	struct iovec in = { from, size }, out = { to, size };
	int fd[2], ret;

	if (pipe(fd))
		return -errno;
	ret = result(splice_in ? vmsplice(fd[1], &in, 1, 0) :
				 write(fd[1], from, size), size);
	if (!ret)
		ret = result(splice_out ? vmsplice(fd[0], &out, 1, 0) :
					  read(fd[0], to, size), size);
	close(fd[0]);
	close(fd[1]);
	return ret;
}

static int by_pipe(struct _test_data_io *self, char *mem, char *buffer,
		   size_t size, bool write)
{
	return through_pipe(write ? mem : buffer, write ? buffer : mem, size,
			    false, false);
}

static int by_vmsplice(struct _test_data_io *self, char *mem, char *buffer,
		       size_t size, bool write)
{
	return through_pipe(write ? mem : buffer, write ? buffer : mem, size,
			    !write, write);
}

static int by_process_vm(struct _test_data_io *self, char *mem, char *buffer,
			 size_t size, bool write)
{
	struct iovec local = { buffer, size }, remote = { mem, size };

	return result((write ? process_vm_writev : process_vm_readv)
		      (getpid(), &local, 1, &remote, 1, 0), size);
}

static int by_proc_mem(struct _test_data_io *self, char *mem, char *buffer,
		       size_t size, bool write)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	if (write)
		ret = result(pwrite(fd, buffer, size, (uintptr_t)mem), size);
	else
		ret = result(pread(fd, buffer, size, (uintptr_t)mem), size);
	close(fd);
	return ret;
}

/* A child stops its parent, and works on the parent's memory word by word. */
static int debug_parent(char *mem, char *buffer, size_t size, bool write)
{
	pid_t parent = getppid();
	long word;
	size_t i;
	int status;

	if (ptrace(PTRACE_ATTACH, parent, 0, 0) ||
	    waitpid(parent, &status, 0) != parent)
		return 1;
	for (i = 0; i < size; i += sizeof(word)) {
		memcpy(&word, buffer + i, sizeof(word));
		if (write && ptrace(PTRACE_POKEDATA, parent, mem + i, word))
			return 2;
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, parent, mem + i, 0);
		if (errno)
			return 3;
		/* Shared with the parent. */
		memcpy(buffer + i, &word, sizeof(word));
	}
	return ptrace(PTRACE_DETACH, parent, 0, 0) ? 4 : 0;
}

static int by_debugger(struct _test_data_io *self, char *mem, char *buffer,
		       size_t size, bool write)
{
	pid_t pid = fork();

	if (!pid)
		_exit(debug_parent(mem, buffer, size, write));
	return vsvm_wait_child(pid);
}

/* The block layer pins pages, and the disk writes to them. */
static int by_disk(struct _test_data_io *self, char *mem, char *buffer,
		   size_t size, bool write)
{
	int ret = result(pwrite(self->disk, write ? buffer : mem, size, 0),
			 size);

	return ret ? ret : result(pread(self->disk, write ? mem : buffer, size,
					0), size);
}

FIXTURE_VARIANT_ADD(io, read) { .io = by_pipe };
FIXTURE_VARIANT_ADD(io, vmsplice) { .io = by_vmsplice };
FIXTURE_VARIANT_ADD(io, process_vm_writev) { .io = by_process_vm };
FIXTURE_VARIANT_ADD(io, proc_self_mem) { .io = by_proc_mem };
FIXTURE_VARIANT_ADD(io, ptrace) { .io = by_debugger };
FIXTURE_VARIANT_ADD(io, o_direct) { .io = by_disk, .disk = true };

/* A disk of its own: file systems in RAM have no real direct I/O. */
static int open_disk(struct _test_data_io *self, int *disk)
{
	unsigned int major, minor;
	char path[64], text[32];
	FILE *f;

	f = fopen(ZRAM_CONTROL "hot_add", "r");
	if (!f)
		return -errno;
	if (fscanf(f, "%d", &self->zram) != 1)
		self->zram = -1;
	fclose(f);
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", self->zram);
	if (vsvm_write_file(path, "4M"))
		return -EIO;
	snprintf(path, sizeof(path), "/sys/block/zram%d/dev", self->zram);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	if (fscanf(f, "%u:%u", &major, &minor) != 2)
		major = 0;
	fclose(f);
	snprintf(text, sizeof(text), "/tmp/vsvm-disk-%d", self->zram);
	unlink(text);
	if (mknod(text, S_IFBLK | 0600, makedev(major, minor)))
		return -errno;
	*disk = open(text, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(text);
	return *disk < 0 ? -errno : 0;
}

static void close_disk(struct _test_data_io *self)
{
	char text[16];
	int tries;

	if (self->disk >= 0)
		close(self->disk);
	if (self->zram < 0)
		return;
	snprintf(text, sizeof(text), "%d", self->zram);
	for (tries = 0; tries < 100; tries++) {
		if (!vsvm_write_file(ZRAM_CONTROL "hot_remove", text))
			return;
		usleep(20 * 1000);
	}
}

FIXTURE_SETUP(io)
{
	int ret;

	self->zram = -1;
	self->disk = -1;
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	/* A disk has blocks of whole pages. */
	self->half = variant->disk ? self->page : self->page / 2;
	self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	self->copy = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->copy);
	if (variant->disk) {
		ret = open_disk(self, &self->disk);
		if (ret == -ENOENT)
			SKIP(return, "no zram to make a disk of");
		ASSERT_EQ(0, ret);
	}
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(io)
{
	munmap(self->mem, self->size);
	munmap(self->copy, self->size);
	close_disk(self);
	EXPECT_EQ(0, vsvm_wait_used_ms(self->gpu.fd, self->gpu.stats.vram_used,
				       10000));
	vsvm_gpu_close(&self->gpu);
}

TEST_F_TIMEOUT(io, reads_device_memory, TIMEOUT)
{
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	ASSERT_EQ(NPAGES, vsvm_count(&self->gpu, self->mem, self->size,
				     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, variant->io(self, self->mem, self->copy, self->size,
				 false));
	EXPECT_EQ(-1, vsvm_verify_value(self->copy, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 2));
	/* Coherent memory was pinned and read where it is. */
	EXPECT_EQ(NPAGES, vsvm_count(&self->gpu, self->mem, self->size,
				     vsvm_accessed_place(&self->gpu)));
	/* The pages are not pinned any more. */
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 3));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 3));
}

TEST_F_TIMEOUT(io, writes_device_memory, TIMEOUT)
{
	uint64_t sum;

	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	vsvm_fill(self->copy, self->size, 3);
	EXPECT_EQ(0, variant->io(self, self->mem, self->copy, self->size,
				 true));
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size,
				       &sum));
	EXPECT_EQ(vsvm_checksum(self->copy, self->size), sum);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 3));
}

/* The device has all pages mapped when the memory is shared with a child. */
TEST_F_TIMEOUT(io, writes_device_memory_after_fork, TIMEOUT)
{
	int go[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	pid = fork();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(vsvm_verify_value(self->mem, self->size, 2) != -1);
	}
	vsvm_fill(self->copy, self->size, 3);
	EXPECT_EQ(0, variant->io(self, self->mem, self->copy, self->size,
				 true));
	ASSERT_EQ(1, write(go[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 3));
	close(go[0]);
	close(go[1]);
}

/* Have the device write every second half, in the background. */
static int start_job(struct _test_data_io *self, struct drm_vsvm_sync *sync,
		     uint64_t value, uint64_t *job)
{
	int n = self->size / (2 * self->half), i;
	struct drm_vsvm_op op[4 * NPAGES];

	for (i = 0; i < 4 * n; i++)
		op[i] = vsvm_op_fill(self->mem + i % n * 2 * self->half,
				     self->half, value);
	return vsvm_exec(&self->gpu, op, 4 * n, sync, 1, job);
}

static int write_halves(struct _test_data_io *self,
			const struct _fixture_variant_io *variant, uint64_t seed)
{
	size_t i;
	int ret = 0;

	for (i = self->half; i < self->size && !ret; i += 2 * self->half) {
		vsvm_fill(self->copy, self->half, seed + i);
		ret = variant->io(self, self->mem + i, self->copy, self->half,
				  true);
	}
	return ret;
}

static int check_halves(struct _test_data_io *self, uint64_t value,
			uint64_t seed)
{
	size_t i, half = self->half;

	for (i = 0; i < self->size; i += 2 * half) {
		if (vsvm_verify_value(self->mem + i, half, value) != -1)
			return -EBADMSG;
		if (vsvm_verify(self->mem + i + half, half, seed + i + half) !=
		    -1)
			return -ESTALE;
	}
	return 0;
}

/* One half of a page is written by the device, the other by other means. */
TEST_F_TIMEOUT(io, writes_during_jobs, TIMEOUT)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };
	struct drm_vsvm_job_status status = {};
	uint64_t job, round;
	int ret = 0;

	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync.handle));
	for (round = 1; round <= ROUNDS && !ret; round++) {
		ret = start_job(self, &sync, round, &job);
		if (!ret)
			ret = write_halves(self, variant, 100 * round);
		EXPECT_EQ(0, ret);
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
					       VSVM_WAIT_MS));
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, job, &status));
		EXPECT_EQ(0, status.error);
		ret = check_halves(self, round, 100 * round);
		EXPECT_EQ(0, ret);
	}
}

/*
 * A file system in user space that does not answer when the file is read.  It
 * consists of just one file.
 */
FIXTURE(fs)
{
	char path[64];
	int fuse;
	int file;
	pthread_t thread;
	atomic_bool asked;
};

static int fuse_reply(int fuse, uint64_t unique, const void *data, size_t size)
{
	struct fuse_out_header head = {
		.len = sizeof(head) + size,
		.unique = unique,
	};
	struct iovec iov[] = {
		{ &head, sizeof(head) }, { (void *)data, size }
	};

	return writev(fuse, iov, 2) == head.len ? 0 : -EIO;
}

static int fuse_serve(struct _test_data_fs *self,
		      const struct fuse_in_header *head)
{
	struct fuse_attr_out attr = {
		.attr = {
			.ino = FUSE_ROOT_ID, .mode = S_IFREG | 0644, .nlink = 1,
			.size = 1 << 20,
		},
		.attr_valid = 3600,
	};
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = 1 << 16, .max_write = 1 << 16,
	};
	struct fuse_open_out open = {};

	switch (head->opcode) {
	case FUSE_INIT:
		return fuse_reply(self->fuse, head->unique, &init, sizeof(init));
	case FUSE_GETATTR:
		return fuse_reply(self->fuse, head->unique, &attr, sizeof(attr));
	case FUSE_OPEN:
		return fuse_reply(self->fuse, head->unique, &open, sizeof(open));
	case FUSE_READ:
		self->asked = true;
		return 0;
	default:
		return fuse_reply(self->fuse, head->unique, NULL, 0);
	}
}

/* Ends when the file system is unmounted. */
static void *fuse_thread(void *arg)
{
	static char buffer[1 << 18] __attribute__((aligned(8)));
	struct _test_data_fs *self = arg;

	while (read(self->fuse, buffer, sizeof(buffer)) > 0)
		fuse_serve(self, (struct fuse_in_header *)buffer);
	return NULL;
}

static int fuse_mount(struct _test_data_fs *self)
{
	char options[80];

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=100644,user_id=0,group_id=0", self->fuse);
	return mount("vsvm", self->path, "fuse", MS_NOSUID | MS_NODEV, options) ?
	       -errno : 0;
}

FIXTURE_SETUP(fs)
{
	struct stat st;

	if (getuid())
		SKIP(return, "needs root");
	self->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (self->fuse < 0)
		SKIP(return, "needs CONFIG_FUSE_FS");
	snprintf(self->path, sizeof(self->path), "/tmp/vsvm-io-%d", getpid());
	self->file = open(self->path, O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_LE(0, self->file);
	close(self->file);
	ASSERT_EQ(0, fuse_mount(self));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, fuse_thread, self));
	self->file = open(self->path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->file);
	/* Has the kernel ask for the size. */
	ASSERT_EQ(0, fstat(self->file, &st));
	ASSERT_LT(0, st.st_size);
}

FIXTURE_TEARDOWN(fs)
{
	/* Whoever waits for it gets an error. */
	EXPECT_EQ(0, umount2(self->path, MNT_FORCE | MNT_DETACH));
	close(self->file);
	EXPECT_EQ(0, pthread_join(self->thread, NULL));
	close(self->fuse);
	EXPECT_EQ(0, unlink(self->path));
}

/* Have a job that reads the file. */
static int fs_read_by_job(struct _test_data_fs *self, struct vsvm_gpu *gpu)
{
	struct drm_vsvm_op op;
	char *mem;

	mem = mmap(NULL, gpu->query.page_size, PROT_READ, MAP_PRIVATE, self->file,
		   0);
	if (mem == MAP_FAILED)
		return -errno;
	op = vsvm_op_checksum(mem, gpu->query.page_size, gpu->result);
	return vsvm_exec(gpu, &op, 1, NULL, 0, NULL);
}

static bool fs_is_asked(struct _test_data_fs *self)
{
	int i;

	for (i = 0; i < 3000 && !self->asked; i++)
		usleep(10000);
	return self->asked;
}

/* The child closes the file that the process has left to it, and says so. */
static int close_a_strangers_file(struct vsvm_gpu *gpu, int go, int done)
{
	char c;

	if (read(go, &c, 1) != 1)
		return 1;
	close(gpu->fd);
	return write(done, &c, 1) == 1 ? 0 : 2;
}

/* The job keeps the process from having a child. */
static int leave_file_to_child(struct _test_data_fs *self, int ready, int go,
			       int done)
{
	struct vsvm_gpu gpu;

	if (vsvm_gpu_open(&gpu, 0))
		return 1;
	if (!fork())
		_exit(close_a_strangers_file(&gpu, go, done));
	if (fs_read_by_job(self, &gpu) || write(ready, "", 1) != 1)
		return 2;
	pause();
	return 3;
}

/*
 * The file is open in another process, which has nothing to do with the job, and
 * does not wait for it when it closes the file.
 */
TEST_F_TIMEOUT(fs, closed_by_a_stranger, TIMEOUT)
{
	struct pollfd done = { .events = POLLIN };
	int ready[2], go[2], closed[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(closed));
	pid = fork();
	if (!pid)
		_exit(leave_file_to_child(self, ready[1], go[0], closed[1]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TRUE(fs_is_asked(self));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));

	EXPECT_EQ(1, write(go[1], "", 1));
	done.fd = closed[0];
	EXPECT_EQ(1, poll(&done, 1, 30000));
}

/* Wait for a job of the process that has left the file to its child. */
static int wait_for_a_strangers_job(struct vsvm_gpu *gpu, uint32_t handle, int go,
				    int done)
{
	int fence, error;
	char c;

	if (read(go, &c, 1) != 1)
		return 1;
	fence = vsvm_syncobj_export(gpu->fd, handle, 0);
	error = fence < 0 ? fence : vsvm_sync_file_wait(fence, 30000);
	return write(done, &error, sizeof(error)) == sizeof(error) ? 0 : 2;
}

/* Jobs of two VMs: one waits for the file, the other for the process's end. */
static int leave_jobs_to_child(struct _test_data_fs *self, int timeline,
			       int ready, int go, int done)
{
	struct drm_vsvm_sync sync[] = {
		{}, { .flags = DRM_VSVM_SYNC_SIGNAL }
	};
	struct vsvm_gpu gpu, other;
	struct drm_vsvm_op op;
	char *mem;

	if (vsvm_gpu_open(&gpu, 0) ||
	    vsvm_syncobj_create(gpu.fd, &sync[0].handle) ||
	    vsvm_syncobj_create(gpu.fd, &sync[1].handle) ||
	    vsvm_sw_sync_import(timeline, 1, gpu.fd, sync[0].handle))
		return 1;
	if (!fork())
		_exit(wait_for_a_strangers_job(&gpu, sync[1].handle, go, done));

	other = gpu;
	mem = vsvm_alloc(1 << 20, 1 << 20);
	op = vsvm_op_fill(mem, 1 << 20, 1);
	if (!mem || vsvm_vm_create(other.fd, &other.vm) ||
	    vsvm_exec(&other, &op, 1, sync, 2, NULL) ||
	    fs_read_by_job(self, &gpu) || write(ready, "", 1) != 1)
		return 2;
	pause();
	return 3;
}

/*
 * A process that is gone gets no more memory, which nobody would be charged for,
 * even if one of its jobs keeps the address space for the others.
 */
TEST_F_TIMEOUT(fs, no_memory_after_the_end, TIMEOUT)
{
	int timeline, ready[2], go[2], done[2], status, error = 0;
	pid_t pid;
	char c;

	timeline = vsvm_sw_sync_open();
	if (timeline < 0)
		SKIP(return, "needs CONFIG_SW_SYNC");
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	pid = fork();
	if (!pid)
		_exit(leave_jobs_to_child(self, timeline, ready[1], go[0],
					  done[1]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_TRUE(fs_is_asked(self));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));

	EXPECT_EQ(0, vsvm_sw_sync_signal(timeline, 1));
	EXPECT_EQ(1, write(go[1], "", 1));
	EXPECT_EQ((ssize_t)sizeof(error), read(done[0], &error, sizeof(error)));
	EXPECT_EQ(-EFAULT, error);
	close(timeline);
}

#define QUOTA_SIZE	(1024 * 1024)

/* A user's job writes to a file of theirs.  Returns the error of the job. */
static int fill_file(const char *path, size_t size, struct stat *st)
{
	struct vsvm_gpu gpu;
	char *mem;
	int fd, ret;

	ret = vsvm_gpu_open(&gpu, 0);
	if (ret)
		return ret;
	if (setresuid(1000, 1000, 1000) || vsvm_vm_create(gpu.fd, &gpu.vm))
		return -EPERM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size))
		return -errno;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	ret = vsvm_gpu_fill(&gpu, mem, size, 1);
	return fstat(fd, st) ? -errno : ret;
}

/* Quotas hold for what the device writes to files, as for what CPUs write. */
TEST(quota)
{
	char dir[64], path[80], options[64];
	struct stat *st;
	int *ret;

	if (getuid())
		SKIP(return, "needs root");
	st = mmap(NULL, sizeof(*st) + sizeof(*ret), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, st);
	ret = (int *)(st + 1);
	snprintf(dir, sizeof(dir), "/tmp/vsvm-quota-%d", getpid());
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(options, sizeof(options),
		 "mode=1777,usrquota,usrquota_block_hardlimit=%d", QUOTA_SIZE);
	ASSERT_EQ(0, mkdir(dir, 0700));
	if (mount("vsvm", dir, "tmpfs", 0, options)) {
		EXPECT_EQ(0, rmdir(dir));
		SKIP(return, "needs CONFIG_TMPFS_QUOTA");
	}

	if (!fork()) {
		*ret = fill_file(path, 8 * QUOTA_SIZE, st);
		_exit(0);
	}
	EXPECT_NE(-1, wait(NULL));
	EXPECT_EQ(EFAULT, *ret);
	EXPECT_LT(0, st->st_blocks);
	EXPECT_GE(QUOTA_SIZE, st->st_blocks * 512);

	EXPECT_EQ(0, umount(dir));
	EXPECT_EQ(0, rmdir(dir));
}

TEST_HARNESS_MAIN
