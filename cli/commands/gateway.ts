import type { Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { withExamples } from '../example.ts';
import { runAgent, takeOverOption, type RunOptions, type StartAgent } from './agent.ts';
import { configOption } from './agent-options.ts';

/** `picket gateway`: the agent of a host that takes out of the mesh what the policy sends through it. */
export function registerGateway(program: Command, startAgent: StartAgent): void {
  withExamples(
    program
      .command('gateway')
      .description(
        'run the agent of a host that is a gateway out of the mesh, until it gets SIGTERM or SIGINT',
      )
      .option(
        '--egress',
        'take out of the mesh what the policy’s egress rule sends "via" an identity of this host',
      )
      .addOption(configOption())
      .addOption(takeOverOption())
      .action(async ({ egress, ...options }: RunOptions & { readonly egress?: boolean }) => {
        if (egress !== true)
          throw new PicketError(
            'invalid_argument',
            'option_missing',
            'picket gateway needs --egress: it is the one kind of gateway',
          );
        await runAgent(startAgent, { ...options, isGateway: true });
      }),
    'picket gateway --egress --config /etc/picket/agent.yaml',
  );
}
