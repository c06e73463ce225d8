import { PicketError } from '../../shared/errors/errors.ts';

/** What a child process may take. */
export interface ChildLimits {
  /** Wall-clock time in milliseconds. */
  readonly timeoutMs: number;
  /** Length of standard output and of standard error, each in bytes. */
  readonly maxOutputBytes: number;
  /** Private writable memory in KiB (RLIMIT_DATA). Go reserves gigabytes of address space that it never touches, so that is not limited. */
  readonly memoryKib: number;
}

export interface ChildResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Why a child was ended before its time. */
export type ChildExcess = 'time' | 'output';

/** The longest file that a child may write, in blocks of 512 bytes: 128 MiB. */
const MAX_FILE_BLOCKS = 262_144;

/** Sets the limits in a shell that then becomes the program: the limits hold for it and for whatever it starts. */
const LIMITED_EXEC =
  'ulimit -c 0 && ulimit -d "$1" && ulimit -t "$2" && ulimit -f "$3" && shift 3 && exec "$@"';

/**
 * Runs a program within limits, with the environment that is given and nothing else. Resolves with its result however it ends by itself;
 * throws `ChildLimitError` when it had to be killed, and PicketError `unavailable`, reason `child_failed`, when it cannot be started.
 */
export async function runBoundedChild(options: {
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly limits: ChildLimits;
}): Promise<ChildResult> {
  const { limits } = options;
  const cpuSeconds = Math.ceil(limits.timeoutMs / 1000) * 2;
  const limited = [limits.memoryKib, cpuSeconds, MAX_FILE_BLOCKS].map(String);
  const child = spawn(['/bin/sh', '-c', LIMITED_EXEC, 'sh', ...limited, ...options.command], options);
  let excess: ChildExcess | undefined;
  const kill = (why: ChildExcess): void => {
    excess ??= why;
    child.kill('SIGKILL');
  };
  const timer = setTimeout(() => kill('time'), limits.timeoutMs);
  try {
    const [stdout, stderr] = await Promise.all(
      [child.stdout, child.stderr].map((stream) =>
        readBounded(stream, limits.maxOutputBytes, () => kill('output')),
      ),
    );
    await child.exited;
    if (excess !== undefined) throw new ChildLimitError(excess);
    return { exitCode: child.exitCode, stdout: stdout ?? '', stderr: stderr ?? '' };
  } finally {
    clearTimeout(timer);
  }
}

/** A child was killed because it passed a limit. */
export class ChildLimitError extends Error {
  override readonly name = 'ChildLimitError';
  readonly excess: ChildExcess;

  constructor(excess: ChildExcess) {
    super(excess === 'time' ? 'It ran for too long' : 'It printed too much');
    this.excess = excess;
  }
}

function spawn(
  command: string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
): Bun.Subprocess<'ignore', 'pipe', 'pipe'> {
  try {
    return Bun.spawn(command, {
      cwd: options.cwd,
      env: { ...options.env },
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
  } catch (cause) {
    throw new PicketError('unavailable', 'child_failed', 'Cannot start a child process', { cause });
  }
}

async function readBounded(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  onExcess: () => void,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.length;
    if (length > maxBytes) {
      onExcess();
      break;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
