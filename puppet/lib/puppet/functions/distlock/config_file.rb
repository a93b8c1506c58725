# frozen_string_literal: true

# @summary The text of distlock's config file, for any values.
#
# Every value is in double quotes, and everything but plain ASCII is escaped: no value can end its line, become another
# key, or be read as anything but a string.
Puppet::Functions.create_function(:'distlock::config_file') do
  # @param settings Config keys and their values; undef values are left out, Sensitive values are unwrapped.
  # @return The text; Sensitive if one of the values is.
  # @example
  #   distlock::config_file({ 'prefix' => '/distlock/', 'endpoints' => ['http://10.0.0.1:2379'] })
  dispatch :config_file do
    param 'Hash[Pattern[/\A[a-z][a-z0-9_]*\z/], Any]', :settings
    return_type 'Variant[String, Sensitive[String]]'
  end

  def config_file(settings)
    given = settings.reject { |_, value| value.nil? }
    lines = given.map { |key, value| entry(key, unwrap(value)) }
    text = "# Puppet writes this file (class distlock).\n#{lines.join}"
    given.any? { |_, value| sensitive?(value) } ? Puppet::Pops::Types::PSensitiveType::Sensitive.new(text) : text
  end

  def sensitive?(value)
    value.is_a?(Puppet::Pops::Types::PSensitiveType::Sensitive)
  end

  def unwrap(value)
    sensitive?(value) ? value.unwrap : value
  end

  def entry(key, value)
    return "#{key}: #{scalar(key, value)}\n" unless value.is_a?(Array)

    "#{key}:\n#{value.map { |item| "  - #{scalar(key, item)}\n" }.join}"
  end

  def scalar(key, value)
    case value
    when true, false, Integer, Float then value.to_s
    when String then quoted(value)
    else raise ArgumentError, "distlock::config_file: #{key}: expected a string, a number, a boolean or an array of them"
    end
  end

  def quoted(text)
    escaped = text.encode('UTF-8').each_char.map do |character|
      next character if %r{\A[ -~]\z}.match?(character) && !['"', '\\'].include?(character)

      format('\\U%08X', character.ord)
    end
    "\"#{escaped.join}\""
  end
end
