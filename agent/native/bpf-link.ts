import { ptr } from 'bun:ffi';
import { bpf, bpfUnavailable, requireBpf } from './bpf-call.ts';
import { readInfo } from './bpf-map.ts';
import { allocateNative, errnoName } from './libc.ts';

const BPF_OBJ_PIN = 6;
const BPF_OBJ_GET = 7;
const BPF_PROG_GET_FD_BY_ID = 13;
const BPF_LINK_CREATE = 28;
const BPF_LINK_UPDATE = 29;
const BPF_LINK_TYPE_CGROUP = 3;
const ENOENT = 2;
const LINK_INFO_BYTES = 32;
const PROGRAM_INFO_BYTES = 80;
const TAG_AT = 8;
const TAG_BYTES = 8;

/** A program attached to a cgroup. */
export interface CgroupLink {
  readonly programId: number;
  /** The inode of the cgroup's folder; 0 when the link was detached, or the cgroup is gone. */
  readonly cgroupId: bigint;
  readonly attachType: number;
}

/**
 * Attaches a program to a cgroup, beside those of others and whatever is attached below it, and returns the link's descriptor. Like all here, it
 * throws `unavailable`, reason `bpf`.
 */
export function linkCgroup(programFd: number, cgroupFd: number, attachType: number): number {
  const attributes = allocateNative(32);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(cgroupFd, 4);
  attributes.writeUInt32LE(attachType, 8);
  return requireBpf(BPF_LINK_CREATE, attributes, 'attach a program to the cgroup');
}

/** Puts another program in the place of a link's, in one step. */
export function replaceProgram(linkFd: number, programFd: number): void {
  const attributes = allocateNative(16);
  attributes.writeUInt32LE(linkFd, 0);
  attributes.writeUInt32LE(programFd, 4);
  requireBpf(BPF_LINK_UPDATE, attributes, 'replace a program');
}

/** What a link holds; undefined for one that is not to a cgroup. */
export function readCgroupLink(linkFd: number): CgroupLink | undefined {
  const info = readInfo(linkFd, LINK_INFO_BYTES, 'look at a link');
  if (info.readUInt32LE(0) !== BPF_LINK_TYPE_CGROUP) return undefined;
  return {
    programId: info.readUInt32LE(8),
    cgroupId: info.readBigUInt64LE(16),
    attachType: info.readUInt32LE(24),
  };
}

/** The kernel's number of a program. */
export function readProgramId(programFd: number): number {
  return readInfo(programFd, PROGRAM_INFO_BYTES, 'look at a program').readUInt32LE(4);
}

/** What the kernel makes of a program's instructions, without the maps in them: 16 hexadecimal digits. */
export function readProgramTag(programFd: number): string {
  const info = readInfo(programFd, PROGRAM_INFO_BYTES, 'look at a program');
  return info.toString('hex', TAG_AT, TAG_AT + TAG_BYTES);
}

/** Opens a program by its number. */
export function openProgram(programId: number): number {
  const attributes = allocateNative(16);
  attributes.writeUInt32LE(programId, 0);
  return requireBpf(BPF_PROG_GET_FD_BY_ID, attributes, 'open a program');
}

/** Gives a link or a map a name in a BPF file system, which keeps it when this process ends. */
export function pinObject(fd: number, path: string): void {
  requireBpf(BPF_OBJ_PIN, pathAttributes(path, fd), `pin ${path}`);
}

/** Opens what is pinned; undefined where nothing is. */
export function openPinned(path: string): number | undefined {
  const result = bpf(BPF_OBJ_GET, pathAttributes(path, 0));
  if (result === -ENOENT) return undefined;
  if (result < 0) throw bpfUnavailable(`open ${path}`, errnoName(-result));
  return result;
}

let pathPlace = allocateNative(1);

function pathAttributes(path: string, fd: number): Buffer {
  const bytes = Buffer.from(`${path}\0`);
  pathPlace = allocateNative(bytes.length);
  pathPlace.set(bytes);
  const attributes = allocateNative(16);
  attributes.writeBigUInt64LE(BigInt(ptr(pathPlace)), 0);
  attributes.writeUInt32LE(fd, 8);
  return attributes;
}
