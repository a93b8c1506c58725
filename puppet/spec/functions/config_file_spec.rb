# frozen_string_literal: true

require 'spec_helper'
require 'yaml'

describe 'distlock::config_file' do
  # What is read back from the text.
  def read(settings)
    YAML.safe_load(subject.execute(settings))
  end

  [
    '', ' ', 'yes', 'null', '~', '12:30:45', '1e3', '=', '<<', '- x', '# x', "a\nb: c", "\u0000", "\u007f\u0085\u2028",
    'ä€😀', '"', "'", '\\', '\\n', '%{x}', '$(id)', '!ruby/object:Object', '&a *a', "tab\t", '---', '{a: b}',
  ].each do |text|
    it "writes #{text.inspect} so that it is read as it is" do
      expect(read('reason' => text, 'endpoints' => [text, 'x'])).to eq('reason' => text, 'endpoints' => [text, 'x'])
    end
  end

  it 'keeps to ASCII, and to a line for each value' do
    written = subject.execute('a' => "ä\nb: c", 'b' => 1)
    expect(written).to be_ascii_only
    expect(written.lines.length).to eq(3)
  end

  it 'leaves out what is undef' do
    expect(read('a' => nil, 'b' => false)).to eq('b' => false)
  end

  it 'is Sensitive as soon as one value is' do
    secret = Puppet::Pops::Types::PSensitiveType::Sensitive
    written = subject.execute('user' => 'u', 'password' => secret.new('x'))
    expect(written).to be_a(secret)
    expect(YAML.safe_load(written.unwrap)).to eq('user' => 'u', 'password' => 'x')
  end

  it { is_expected.to run.with_params("a: b\nc" => 'x').and_raise_error(ArgumentError) }
  it { is_expected.to run.with_params('a' => { 'b' => 'c' }).and_raise_error(ArgumentError, %r{a: expected}) }
end
