# frozen_string_literal: true

require 'spec_helper'

describe 'distlock::protect' do
  let(:title) { 'percona_prod' }
  let(:pre_condition) { "notify { 'a': } notify { 'b': }" }

  context 'with resources' do
    let(:params) { { resources: [ref('Notify', 'a'), ref('Notify', 'b')] } }

    it { is_expected.to compile }
    it { is_expected.to contain_distlock_protect('percona_prod').that_requires(['Notify[a]', 'Notify[b]']).with(until: 'unlocked') }
  end

  context 'without resources' do
    let(:params) { { resources: [] } }

    it { is_expected.to compile.and_raise_error(%r{at least 1}) }
  end
end
