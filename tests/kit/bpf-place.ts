import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findCgroupMount } from '../../agent/native/cgroup.ts';
import { run, runOk } from './child.ts';
import type { TestHost } from './netns.ts';
import { waitUntil } from './wait.ts';

/** What a host of a test needs for capture by eBPF, apart from every other host of the machine. */
export interface BpfPlace {
  /** The host, whose programs are from now on in a cgroup of their own. */
  readonly host: TestHost;
  readonly cgroup: string;
  /** Where an agent may pin programs: it makes the folder itself. */
  readonly bpfFolder: string;
  /** The settings of capture, by their names in agent.yaml. */
  readonly settings: {
    readonly backend: 'ebpf';
    readonly cgroup: string;
    readonly bpf_dir: string;
  };
  /** Ends what still runs in the cgroup, and takes all away. */
  remove(): Promise<void>;
}

/** `echo` is the shell's own: the process that is moved becomes the program. */
const ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"';

/** Makes a cgroup and mounts a BPF file system for a host. Needs root, and says what the machine lacks. */
export async function createBpfPlace(host: TestHost): Promise<BpfPlace> {
  const tree = await openCgroupTree();
  const cgroup = join(tree.path, host.name);
  mkdirSync(cgroup);
  const mount = mkdtempSync(join(tmpdir(), 'picket-bpf-'));
  const inside = (...command: string[]): string[] => ['sh', '-c', ENTER, cgroup, ...host.in(...command)];
  const bpfFolder = join(mount, 'picket');
  const remove = async (): Promise<void> => {
    live.delete(remains);
    writeFileSync(join(cgroup, 'cgroup.kill'), '1');
    // Until the last of its processes is gone for good, it is busy.
    await waitUntil(`${cgroup} can be removed`, () => {
      rmdirSync(cgroup);
      return true;
    });
    await run(['umount', mount]);
    rmdirSync(mount);
    await tree.close();
  };
  const remains = { cgroup, mount };
  if (live.size === 0) process.on('exit', removeLeftOvers);
  live.add(remains);
  await runOk(['mount', '-t', 'bpf', 'bpf', mount]);
  return {
    host: { ...host, in: inside, runOk: async (...command) => await runOk(inside(...command)) },
    cgroup,
    bpfFolder,
    settings: { backend: 'ebpf', cgroup, bpf_dir: bpfFolder },
    remove,
  };
}

const live = new Set<{ readonly cgroup: string; readonly mount: string }>();

/** For a test run that ended before it could clean up. */
function removeLeftOvers(): void {
  for (const { cgroup, mount } of live)
    for (const command of [
      ['umount', mount],
      ['rmdir', mount, cgroup],
    ])
      Bun.spawnSync(command, { stdio: ['ignore', 'ignore', 'ignore'] });
}

/** The tree of cgroups of version 2: where the machine has it mounted, or mounted for the test. */
async function openCgroupTree(): Promise<{ readonly path: string; readonly close: () => Promise<void> }> {
  const mounted = findCgroupMount(readFileSync('/proc/self/mountinfo', 'utf8'));
  if (mounted !== undefined && isWritable(mounted)) return { path: mounted, close: () => Promise.resolve() };
  const path = mkdtempSync(join(tmpdir(), 'picket-cgroup-'));
  await runOk(['mount', '-t', 'cgroup2', 'cgroup2', path]);
  return {
    path,
    close: async () => {
      await run(['umount', path]);
      rmdirSync(path);
    },
  };
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
