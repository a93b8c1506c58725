# frozen_string_literal: true

require_relative '../../../puppet_x/distlock/command' unless defined?(PuppetX::Distlock::Command)

Puppet::Type.type(:exec).provide :distlock, parent: :posix do
  desc <<~DOC
    For `distlock::exec`: like `posix`. The messages of distlock-puppet about the lock are in the run's log, even if the
    command succeeds and its output is not logged. The error of a refused lock names the holder, since when, and why.
  DOC

  has_feature :umask

  # Never the default for `exec`.
  def self.specificity
    0
  end

  def run(command, check = false)
    output, status = super
    tell(output, status) unless check
    [output, status]
  end

  private

  def tell(output, status)
    lines = output.to_s.scrub('?').lines.map(&:chomp)
    ours = lines.select { |line| ours?(line) }.map { |line| said(line) }
    expected = resource.should(:returns).map(&:to_s).include?(status.exitstatus.to_s)
    # With logoutput, Puppet logs them itself.
    ours.each { |line| resource.notice(line) } if expected && resource[:logoutput] != :true
    # 1 is also the exit code of distlock-puppet if the command was not started.
    return if expected || status.exitstatus != 1 || !ours?(lines.last.to_s)

    @tried = (@tried || 0) + 1
    raise Puppet::Error, ours.last if @tried >= resource[:tries]
  end

  def ours?(line)
    line.start_with?('distlock: ')
  end

  def said(line)
    PuppetX::Distlock::Command.one_line(line.delete_prefix('distlock: '))
  end
end
