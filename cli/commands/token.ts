import type { Command } from 'commander';
import { createdToken, tokenPage } from '../../shared/protocol/operator.ts';
import { collect, withExamples } from '../example.ts';
import { durationOption } from '../duration-option.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

interface CreateOptions {
  readonly address?: readonly string[];
  readonly ttl: number;
}

/** `picket token`: join tokens for hosts without a TPM. */
export function registerToken(program: Command): void {
  const token = program.command('token').description('join tokens: let one host without a TPM attest, once');
  withExamples(
    token
      .command('create <node>')
      .description('make a join token for a host; it is shown once and works once')
      .option('--address <ip>', 'address that is declared to be this host (repeatable)', collect)
      .addOption(durationOption('--ttl <duration>', 'how long the token can be used', '10m'))
      .action(create),
    'picket token create web-1 --address 10.0.0.5',
  );
  withExamples(
    token.command('list').description('tokens that were made, used or not').action(list),
    'picket token list --json',
  );
  withExamples(
    token.command('delete <token-hash>').description('withdraw a token that was not used').action(remove),
    'picket token delete 9f86d0…',
  );
}

async function create(node: string, options: CreateOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const body = { name: node, addresses: options.address ?? [], ttlSeconds: options.ttl };
  output.result(await client.post('/tokens', createdToken, body), (made) =>
    fields([
      ['token', made.token],
      ['root key sha256', made.rootKeySha256],
      ['agent id', made.agentId],
      ['expires', made.expiresAt],
    ]),
  );
  output.note(
    '\nGive the token and the root key hash to that host’s agent.yaml, attestation.join_token and trust.root_key_sha256.',
  );
}

async function list(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.get('/tokens', tokenPage), ({ items }) =>
    table(
      items,
      [
        { title: 'node', of: (t) => t.name },
        { title: 'expires', of: (t) => t.expiresAt },
        { title: 'used', of: (t) => t.usedAt ?? '-' },
        { title: 'by', of: (t) => t.createdBy },
        { title: 'hash', of: (t) => t.tokenHash },
      ],
      'No join tokens.',
    ),
  );
}

async function remove(tokenHash: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(`/tokens/${encodeURIComponent(tokenHash)}`);
  output.result({ deleted: tokenHash }, () => `Deleted token ${tokenHash}`);
}
