import type { Command } from 'commander';
import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { quarantine, quarantinePage, type QuarantineKind } from '../../shared/protocol/quarantine.ts';
import { durationSeconds } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

type Quarantine = z.output<typeof quarantine>;

interface SubjectOptions {
  readonly node?: string;
  readonly segment?: string;
}

interface AddOptions extends SubjectOptions {
  readonly reason: string;
  readonly until?: number;
}

/** `picket quarantine`: cut a workload, a host or a part of the mesh off at once, open connections too. */
export function registerQuarantine(program: Command): void {
  const quarantines = program
    .command('quarantine')
    .description('cut a workload, a host or a segment off at once, whatever the policy says');
  withExamples(
    subjectOptions(
      quarantines
        .command('add [spiffe-id]')
        .description('it neither calls nor is called, and its open connections are cut'),
    )
      .requiredOption('--reason <text>', 'why; operators read it, who is refused does not')
      .option('--until <duration>', 'lifted by the server after this time (default: never)', durationSeconds)
      .action(add),
    'picket quarantine add spiffe://example.org/ns/shop/sa/web --reason "beaconing" --until 2h',
    'picket quarantine add --node spiffe://example.org/picket/agent/tpm/web-1 --reason "root shell found"',
    'picket quarantine add --segment spiffe://example.org/ns/shop --reason "ransom note"',
  );
  withExamples(
    quarantines.command('list').description('what is in quarantine').action(list),
    'picket quarantine list --json',
  );
  withExamples(
    subjectOptions(
      quarantines.command('lift [spiffe-id]').description('end it: the policy alone decides again'),
    ).action(lift),
    'picket quarantine lift spiffe://example.org/ns/shop/sa/web',
    'picket quarantine lift --node spiffe://example.org/picket/agent/tpm/web-1',
  );
}

function subjectOptions(command: Command): Command {
  return command
    .option('--node <agent-id>', 'everything on this host')
    .option(
      '--segment <spiffe-id>',
      'this ID and all below it, by whole path segments: /ns/a holds /ns/a/b, not /ns/ab',
    );
}

async function add(spiffeId: string | undefined, options: AddOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const body = { reason: options.reason, ttlSeconds: options.until };
  const added = await client.put(pathOf(spiffeId, options), quarantine, body);
  output.result(added, render);
  if (added.coveredEntries === 0)
    output.note('\nNo workload is registered there now. Is it spelled right? picket entry list');
}

async function list(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/quarantines', quarantinePage), ({ items }) =>
    table(
      items,
      [
        { title: 'kind', of: (q) => q.kind },
        { title: 'subject', of: (q) => q.subject },
        { title: 'workloads', of: (q) => String(q.coveredEntries) },
        { title: 'until', of: (q) => q.until ?? '-' },
        { title: 'by', of: (q) => q.createdBy },
        { title: 'reason', of: (q) => q.reason },
      ],
      'Nothing is in quarantine.',
    ),
  );
}

async function lift(spiffeId: string | undefined, options: SubjectOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const { kind, subject } = subjectOf(spiffeId, options);
  await client.delete(pathOf(spiffeId, options));
  output.result({ lifted: { kind, subject } }, () => `Lifted the quarantine of ${kind} ${subject}`);
}

function pathOf(spiffeId: string | undefined, options: SubjectOptions): string {
  const { kind, subject } = subjectOf(spiffeId, options);
  return `/quarantines/${kind}/${encodeURIComponent(subject)}`;
}

function subjectOf(
  workload: string | undefined,
  { node, segment }: SubjectOptions,
): { readonly kind: QuarantineKind; readonly subject: string } {
  const named = Object.entries({ workload, node, segment }).filter(([, value]) => value !== undefined);
  const [kind, subject] = named[0] ?? [];
  if (named.length === 1 && kind !== undefined && subject !== undefined)
    return { kind: kind as QuarantineKind, subject };
  throw new PicketError(
    'invalid_argument',
    'quarantine_subject_missing',
    'Name one of these: the SPIFFE ID of a workload, --node or --segment',
  );
}

function render(q: Quarantine): string {
  return fields([
    ['quarantine', `${q.kind} ${q.subject}`],
    ['workloads', `${q.coveredEntries} registered there now`],
    ['reason', q.reason],
    ['until', q.until ?? 'lifted by hand'],
    ['by', `${q.createdBy}, ${q.createdAt}`],
  ]);
}
