import { Option, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { BUILD } from '../version.ts';
import { EMBEDDED } from './successor-command.ts';

/**
 * Becomes a worker of this process. Whoever replaced the file meanwhile, a worker of another build would understand rules and settings in another way than its agent: it is told the
 * build, and refuses to run unless it is its own.
 */
export function workerCommand(): readonly string[] {
  const program = Bun.main.startsWith(EMBEDDED) ? [process.execPath] : [process.execPath, Bun.main];
  return [...program, 'agent', 'worker', '--build', BUILD];
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
