import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countDescriptorsTo } from '../../tests/kit/count-descriptors.ts';
import { closeDescriptor } from './dial.ts';
import { openDescriptorWay, receiveDescriptors, sendDescriptors } from './descriptor-passing.ts';

let folder: string;
let way: ReturnType<typeof openDescriptorWay>;
let files: readonly number[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'picket-descriptors-'));
  way = openDescriptorWay();
  files = ['a', 'b'].map((name) => {
    writeFileSync(join(folder, name), name);
    return openSync(join(folder, name), 'r');
  });
});
afterEach(() => {
  for (const fd of [way.near, way.far, ...files]) closeDescriptor(fd);
  rmSync(folder, { recursive: true });
});

const inodeOf = (fd: number): number => fstatSync(fd).ino;

describe('sendDescriptors() and receiveDescriptors()', () => {
  test('pass other descriptors for the same files, packet by packet, closed in programs that are run', () => {
    const [a = -1, b = -1] = files;
    expect(sendDescriptors(way.near, [a, b])).toBe(true);
    expect(sendDescriptors(way.near, [b])).toBe(true);
    const first = receiveDescriptors(way.far);
    const second = receiveDescriptors(way.far);
    expect([first, second].map((fds) => fds.map(inodeOf))).toEqual([[inodeOf(a), inodeOf(b)], [inodeOf(b)]]);
    for (const fd of [...first, ...second]) {
      expect(files).not.toContain(fd);
      // O_CLOEXEC
      expect(
        Number.parseInt(
          /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0',
          8,
        ) & 0o2000000,
      ).not.toBe(0);
      closeDescriptor(fd);
    }
  });

  test('say when nothing more fits, and go on when something was taken', () => {
    const [file = -1] = files;
    let sent = 0;
    while (sendDescriptors(way.near, [file])) sent++;
    expect(sent).toBeGreaterThan(50);
    closeDescriptor(receiveDescriptors(way.far)[0] ?? -1);
    expect(sendDescriptors(way.near, [file])).toBe(true);
    for (let taken = 0; taken < sent; taken++) closeDescriptor(receiveDescriptors(way.far)[0] ?? -1);
    expect(countDescriptorsTo(file)).toBe(1);
  });

  test('take a packet for which there is no room, keep none of it, and go on with the next', async () => {
    const fixture = join(import.meta.dirname, 'fixtures/full-process.ts');
    const full = Bun.spawn(['prlimit', '--nofile=128:128', process.execPath, fixture], { stderr: 'inherit' });
    expect(JSON.parse(await new Response(full.stdout).text())).toEqual({
      first: 'resource_exhausted descriptor_passing',
      kept: 0,
      second: 1,
    });
  });

  test('refuse what is nothing or too much, what is no descriptor, and what is not there', () => {
    expect(() => sendDescriptors(way.near, [])).toThrow(RangeError);
    expect(() => sendDescriptors(way.near, [0, 0, 0, 0, 0])).toThrow(RangeError);
    expect(() => sendDescriptors(way.near, [9999])).toThrow(/EBADF/);
    expect(() => receiveDescriptors(way.far)).toThrow(/EWOULDBLOCK|EAGAIN/);
    closeDescriptor(way.near);
    expect(() => receiveDescriptors(way.far)).toThrow(/it carries none/);
  });
});
