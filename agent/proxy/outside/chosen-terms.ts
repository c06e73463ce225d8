import type { Verdict } from '../../../shared/policy/decision.ts';
import { areSameTerms, type EgressTerms } from '../../../shared/policy/egress-terms.ts';
import { denied } from './denied.ts';

/** The terms on which a connection leaves the mesh: those of its first decision, since there is but one way for all that it carries. */
export class ChosenTerms {
  #chosen: { readonly terms: EgressTerms | undefined } | undefined;

  get current(): EgressTerms | undefined {
    return this.#chosen?.terms;
  }

  /** Those of a decision that was made before; the first that are chosen stay. */
  choose(terms: EgressTerms | undefined): void {
    this.#chosen ??= { terms };
  }

  /** The verdict on what follows; the first that allows something chooses. */
  hold(verdict: Verdict): Verdict {
    if (!verdict.isAllowed) return verdict;
    this.choose(verdict.terms);
    if (areSameTerms(this.current, verdict.terms)) return verdict;
    return denied(
      verdict,
      'egress_deny',
      'The policy lets it out on other terms than this connection was on',
    );
  }
}
