import { constructedContextTag, contextTag } from '../../../shared/wire/der-tag.ts';
import { derElement, derSequence } from '../../../shared/wire/der-writer.ts';
import { parseDnsNameConstraints, permitsDnsName } from '../../../shared/wire/x509-name-constraints.ts';
import { hexWords, requireThat, words, type FuzzTarget } from '../target.ts';

const subtree = (name: string): Uint8Array => derSequence(derElement(contextTag(2), Buffer.from(name)));
const SEEDS = [
  derSequence(derElement(constructedContextTag(0), subtree('partner.test'), subtree('.other.test'))),
  derSequence(
    derElement(constructedContextTag(0), subtree('')),
    derElement(constructedContextTag(1), subtree('secret.partner.test')),
  ),
];

/** Name constraints of an authority: what is excluded is never permitted, nor what lies below it, and what is permitted lies in something that is. */
export const target: FuzzTarget = {
  seeds: SEEDS.map((seed) => Buffer.from(seed)),
  dictionary: [...hexWords('a0', 'a1', '82', '3000', '8200'), ...words('partner.test', '.', 'TEST')],
  maxBytes: 1024,
  check(input) {
    const constraints = parseDnsNameConstraints(input);
    const { permitted, excluded } = constraints;
    for (const name of excluded)
      for (const within of [name, `a.${name}`])
        requireThat(name.startsWith('.') || !permitsDnsName(constraints, within), `${within} is excluded`);
    const isAnywhere = permitted?.every((name) => name !== '') === true;
    requireThat(
      !isAnywhere ||
        !permitsDnsName(constraints, 'nowhere.invalid') ||
        permitted.some((name) => 'nowhere.invalid'.endsWith(name)),
      'a name in no subtree is permitted',
    );
    return `${permitted?.length ?? 'all'} ${excluded.length}`;
  },
};
