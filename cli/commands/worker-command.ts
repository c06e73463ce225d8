import { statSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { BUILD } from '../version.ts';
import { EMBEDDED } from './successor-command.ts';

const ITSELF = '/proc/self/exe';

/**
 * Becomes a worker of this process, of the same build: it would understand rules and settings in another way otherwise. Where somebody has replaced the file, to upgrade or on the way to it,
 * that is the one that this process runs still; else it is called by its name, as people look for it. The worker is told the build, and refuses to run unless it is its own.
 */
export function workerCommand(): readonly string[] {
  const file = isReplaced(process.execPath) ? ITSELF : process.execPath;
  const program = Bun.main.startsWith(EMBEDDED) ? [file] : [file, Bun.main];
  return [...program, 'agent', 'worker', '--build', BUILD];
}

/** Whether another file, or none, stands where the program of this process came from. */
export function isReplaced(path: string): boolean {
  const there = statSync(path, { bigint: true, throwIfNoEntry: false });
  const own = statSync(ITSELF, { bigint: true });
  return there === undefined || there.ino !== own.ino || there.dev !== own.dev;
}

/** Not for people: the agent starts it, and speaks with it. */
export function registerWorker(agent: Command, run: () => Promise<void>): void {
  agent
    .command('worker', { hidden: true })
    .addOption(new Option('--build <build>', 'of the agent that starts it').default(''))
    .action(async ({ build }: { readonly build: string }) => {
      requireOwnBuild(build);
      await run();
    });
}

/** Throws `failed_precondition`, reason `worker_build_differs`. */
export function requireOwnBuild(build: string): void {
  if (build === BUILD) return;
  throw new PicketError(
    'failed_precondition',
    'worker_build_differs',
    `Workers are started by the agent of their own build: it says ${build === '' ? 'none' : build}, this is ${BUILD}. Restart the agent`,
  );
}
